"""What every launcher does with a config before it reaches Triton."""

from autotune.config import Config, Scalar


def options(config: Config) -> dict[str, Scalar]:
    """Keywords for `jit[grid](...)`; `maxnreg=0` means not set, which Triton spells by absence."""
    return {name: value for name, value in config.items() if not (name == "maxnreg" and value == 0)}
