"""Price of a GPU hour, and of a million tokens."""

from __future__ import annotations

SOURCE = "SemiAnalysis' AI Cloud TCO model for hyperscalers, read on 2026-11-30"
"""Prices of InferenceX-app (GPU_SPECS.costh in packages/app/src/lib/constants.ts at 0c8d279); its posts of 2026-05-26
quote the same for GB200 and GB300. B300 and GB300 stand there as 1.2 times B200 and GB200, for want of their own."""
USD_PER_HOUR = {
    "h100": 1.30,
    "h200": 1.41,
    "b200": 1.95,
    "b300": 2.34,
    "gb200": 2.21,
    "gb300": 2.652,
    "mi300x": 1.12,
    "mi325x": 1.28,
    "mi355x": 1.48,
}
"""By device, of one GPU. A price that you pay goes before: `--price`."""


def usd_per_million_tokens(usd_per_hour: float, tokens_per_s: float) -> float:
    """Return the cost of a million tokens at `tokens_per_s` of one GPU.

    InferenceX's formula, price * 1e6 / (3600 * tokens a second), where tokens are those of prompts and answers.
    """
    return usd_per_hour * 1e6 / (3600 * tokens_per_s)
