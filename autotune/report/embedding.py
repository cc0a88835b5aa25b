"""JSON inside an HTML file: no text of the data can end the script element that holds it, or begin another."""

from __future__ import annotations

import json


def script_json(value: object) -> str:
    """Return `value` as JSON for a `<script type="application/json">`. Raises ValueError for NaN and infinity.

    `<` is escaped, since `</script` and `<!--` end or change a script element, and so are the two line separators that
    JSON allows and older scripts do not.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
