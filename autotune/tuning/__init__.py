"""From a search space to a table, one package a stage, in the order in which they import one another.

`arrays` · `space`: the feasible configs of a problem · `workers`: processes · `compilation` · `search` · `cost_model` ·
`interpreter` · `validation` · `measurement` · `jobs`: what workers run · `session`, which drives them all.
Serving never imports this package.
"""
