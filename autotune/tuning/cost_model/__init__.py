"""Predictions before anything is measured: the static cost model and the prior trained on shipped winners."""
