"""The tuning session, in order: space, candidate, compile, resources, predict, search, validate, session.

Serving never imports this package.
"""
