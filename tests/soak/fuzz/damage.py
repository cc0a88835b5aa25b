"""Injuries to valid texts: to their bytes, and, where they are JSON or YAML, to what they say."""

import json

import yaml

WORDS = [
    *("null", "true", "NaN", "-Infinity", "1e999", "-1", "0", "99999999999999999999", '""', "[]", "{}", "[[[[[["),
    "\\ud800",
    *("!!python/object/apply:os.system ['false']", "&a [*a]", "<<: *a", "../../../etc/passwd", "\x00", "é", "1.5"),
]  # fmt: skip
VALUES = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**200, -(2**63), 1.5, -0.0, 1e308, 3, 7),
    *("", "é", "\x00", "../../etc/passwd", "a" * 300, "1", "true", "e4m3fn", [], {}, [[]], {"": None}, [0, "x"]),
]


def damaged(text, chance):
    """`text` with one to four injuries to its bytes."""
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.randint(0, len(text)) for _ in range(2))
        to = min(to, at + chance.choice((1, 2, 8, 64)))
        text = chance.choice(
            (
                lambda t, a, b: t[:a] + t[b:],
                lambda t, a, b: t[:a],
                lambda t, a, b: t[:b] + t[a:b] + t[b:],
                lambda t, a, b: t[:a] + chance.choice(WORDS) + t[b:],
                lambda t, a, b: t[:a] + chr(chance.randint(0, 0x17F)) + t[b:],
                lambda t, a, b: t[:a] + str(chance.randint(-(2**33), 2**65)) + t[b:],
            )
        )(text, at, to)
    return text


def changed(data, chance):
    """JSON of a copy of `data` in which one to three values or names are others, gone, or there twice."""
    for _ in range(chance.randint(1, 3)):
        data = json.loads(json.dumps(data))  # a copy, in which nothing is there twice
        holder = chance.choice(list(_holders(data)) or [None])
        if not holder:
            continue
        place = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        kind = chance.randint(0, 4)
        if kind == 0:
            del holder[place]
        elif kind == 1 and isinstance(holder, dict):
            holder[chance.choice(("", "x", "m", "config", "BLOCK_M", "serves", "\ud800"))] = holder.pop(place)
        elif kind == 2 and isinstance(holder, list):
            holder.append(holder[place])
        elif kind == 3 and type(holder[place]) is int:
            holder[place] = chance.choice((holder[place] * 2, holder[place] + 1, -holder[place], holder[place] << 40))
        else:
            holder[place] = chance.choice(VALUES)
    return json.dumps(data)


def parsed(text):
    """Parsed `text` if it is JSON or YAML, else None."""
    for read in (json.loads, yaml.safe_load):
        try:
            found = read(text)
        except (ValueError, yaml.YAMLError):
            continue
        return found if isinstance(found, dict | list) else None
    return None


def _holders(data):
    if isinstance(data, dict | list):
        yield data
        for value in data.values() if isinstance(data, dict) else data:
            yield from _holders(value)
