"""Proof that a config is right: inputs, error budgets, and the problems that a row must be proved on."""
