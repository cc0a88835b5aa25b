"""From a search space to a table, one room a stage.

`space` the feasible configs of a problem · `workers` processes · `compilation` · `search` · `prediction` · `validation`
· `measurement` · `session`, which drives them all. A room imports only from rooms before it.
Serving never imports this package.
"""
