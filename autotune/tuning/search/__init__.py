"""Which config to try next: encoding, surrogate, suggestion, the Optuna sampler and its study on disk."""
