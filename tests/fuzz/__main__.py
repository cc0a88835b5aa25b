"""Hostile input for everything that is read: `python tests/fuzz [LOADER ...] [--inputs 100000] [--seed 0]`.

Valid files are damaged: bytes changed, cut, doubled or swapped, and words replaced by ones that hurt. A loader may
answer, or raise an AutotuneError; what it answers must survive being written and read again. Anything else stops the
run and prints the input.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from loaders import LOADERS

from autotune.errors import AutotuneError

WORDS = [
    *("null", "true", "NaN", "-Infinity", "1e999", "-1", "0", "99999999999999999999", '""', "[]", "{}", "[[[[[["),
    "\\ud800",
    *("!!python/object/apply:os.system ['false']", "&a [*a]", "<<: *a", "../../../etc/passwd", "\x00", "é", "1.5"),
]  # fmt: skip
TIMEOUT_S = 30


def damaged(text, chance):
    """`text` with one to four injuries."""
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


def run(name, count, seed):
    """{accepted, refused} of `count` damaged inputs. Raises whatever a loader raises that it must not."""
    seeds, load = LOADERS[name]
    chance, found = random.Random(f"{name} {seed}"), {"accepted": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        texts = seeds()
        for _ in range(count):
            text = damaged(chance.choice(texts), chance)
            signal.alarm(TIMEOUT_S)
            try:
                load(text, Path(folder))
                found["accepted"] += 1
            except AutotuneError as error:
                assert str(error), "an error without a message"
                found["refused"] += 1
            except BaseException:
                print(f"{name}: {text!r}", file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
    return found


def main():
    parser = argparse.ArgumentParser(prog="python tests/fuzz")
    parser.add_argument("loaders", nargs="*")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.loaders or LOADERS:
        began = time.perf_counter()
        found = run(name, arguments.inputs, arguments.seed)
        print(json.dumps({"loader": name, **found, "seconds": round(time.perf_counter() - began, 1)}), flush=True)


main()
