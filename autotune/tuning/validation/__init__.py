"""Whether a config is right: inputs, error budget, corrected interpreter, sanitizer, what a row must be proved on."""
