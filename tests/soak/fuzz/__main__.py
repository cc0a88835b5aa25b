"""Hostile input for everything that is read.

    python tests/soak/fuzz [LOADER ...] [--inputs 100000] [--seed 0] [--jobs 2] [--log FILE]

Valid texts are damaged (damage.py). A loader may answer, or raise an AutotuneError; what it answers must survive being
written and read again. Anything else stops the run and prints the input. Pieces that stand in the --log are not run
again.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from damage import changed, damaged, parsed
from loaders import LOADERS

from autotune.errors import AutotuneError

TIMEOUT_S = 30
PIECE = 5000


def run(name, count, seed):
    """{accepted, refused} of `count` damaged inputs. Raises whatever a loader raises that it must not."""
    seeds, load = LOADERS[name]
    chance, found = random.Random(f"{name} {seed}"), Counter(accepted=0, refused=0)
    with tempfile.TemporaryDirectory() as folder:
        texts = seeds()
        whole = [tried(name, load, text, Path(folder)) for text in texts]
        assert name == "arguments" or "refused" not in whole, "what is damaged must be whole first"
        structures = [text.split(" ") if name == "arguments" else parsed(text) for text in texts]
        structures = [data for data in structures if data is not None]
        for _ in range(count):
            deep = structures and chance.random() < 0.5
            text = changed(chance.choice(structures), chance) if deep else damaged(chance.choice(texts), chance)
            found[tried(name, load, text, Path(folder))] += 1
    return dict(found)


def tried(name, load, text, folder):
    signal.alarm(TIMEOUT_S)
    try:
        load(text, folder)
    except AutotuneError as error:
        assert str(error), "an error without a message"
        return "refused"
    except BaseException:
        print(f"{name}: {text!r}", file=sys.stderr)
        raise
    finally:
        signal.alarm(0)
    return "accepted"


def piece(task):
    name, count, seed = task
    began = time.perf_counter()
    found = run(name, count, seed)
    return {"loader": name, "seed": seed, **found, "seconds": round(time.perf_counter() - began, 1)}


def main():
    parser = argparse.ArgumentParser(prog="python tests/soak/fuzz")
    parser.add_argument("loaders", nargs="*")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--log", type=Path, help="results by piece of 5,000 inputs; a run goes on from it")
    arguments = parser.parse_args()
    names = arguments.loaders or list(LOADERS)
    done = {}
    if arguments.log and arguments.log.exists():
        done = {(row["loader"], row["seed"]): row for row in map(json.loads, arguments.log.read_text().splitlines())}
    sizes = [min(PIECE, arguments.inputs - at) for at in range(0, arguments.inputs, PIECE)]
    tasks = [(name, size, f"{arguments.seed}/{at}") for name in names for at, size in enumerate(sizes)]
    totals = defaultdict(Counter)
    for row in [*(done[n, s] for n, _, s in tasks if (n, s) in done), *results(tasks, done, arguments)]:
        totals[row["loader"]].update({k: row[k] for k in ("accepted", "refused", "seconds")})
    for name in names:
        print(json.dumps({"loader": name, **totals[name], "seconds": round(totals[name]["seconds"], 1)}), flush=True)


def results(tasks, done, arguments):
    left = [(name, size, seed) for name, size, seed in tasks if (name, seed) not in done]
    if arguments.jobs == 1:
        found = map(piece, left)
    else:
        pool = ProcessPoolExecutor(arguments.jobs)
        found = pool.map(piece, left)
    for row in found:
        if arguments.log:
            with arguments.log.open("a") as log:
                log.write(json.dumps(row) + "\n")
        yield row


if __name__ == "__main__":
    main()
