"""Mutants of the kernels against validation.

    TRITON_INTERPRET=1 python tests/soak/mutation [KERNEL ...] [--each N] [--guards] [--log FILE]

Prints one JSON line a mutant. Verdicts: `killed`, `stillborn` (raised an error of the interpreter's: no such kernel
could be meant), `same` (equal bits in every run), `survived` (other bits, and accepted). Verdicts of a --log that has
the same mutant of the same sources already are not made again.
"""

import argparse
import dataclasses
import hashlib
import json
import random
import signal
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

from edited import edited, sources
from jobs import GPU, jobs
from rules import LOST_GUARDS, mutants

import autotune.tuning
from autotune import registry
from autotune.errors import Defect, WrongResult
from autotune.tuning.validation.validate import prove, same_bits

KERNELS = [
    *("norm/rms_norm_quant", "norm/layer_norm", "norm/qkv_rms_norm", "quant/fp8_group_quant", "quant/mx_quant"),
    *("moe/combine", "moe/swiglu_quant", "moe/router", "moe/mxfp4_grouped_gemm", "gemm/fp8_block_scaled"),
    *("gemm/bf16_grouped", "hyperconnection/mhc_post", "hyperconnection/mhc_pre", "compressor/decode_pool"),
    *("attention/dense_mqa", "indexer/topk", "indexer/ragged_logits", "sampling/greedy"),
]
TIMEOUT_S = 240


def main():
    parser = argparse.ArgumentParser(prog="python tests/soak/mutation")
    parser.add_argument("kernels", nargs="*", default=KERNELS)
    parser.add_argument("--each", type=int, default=20, help="mutants a kernel (default 20)")
    parser.add_argument("--guards", action="store_true", help="only mutants that lost a guard")
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    known = {}
    if arguments.log and arguments.log.exists():
        known = {row["key"]: row for row in map(json.loads, arguments.log.read_text().splitlines())}
    for name in arguments.kernels or KERNELS:
        for row in verdicts(name, arguments.each, arguments.guards, known):
            line = json.dumps(row)
            print(line, flush=True)
            if arguments.log and row["key"] not in known:
                with arguments.log.open("a") as log:
                    log.write(line + "\n")


def verdicts(name, count, guards, known):
    kernel = registry.load(name)
    runs, lines = baseline(kernel)
    everything = {path: mutants(path.read_text(encoding="utf-8")) for path in map(Path, sources(name))}
    pool = [(p, m) for p, found in everything.items() for m in found if (str(p.resolve()), m.statement) in lines]
    pool = [(p, m) for p, m in pool if m.rule in LOST_GUARDS] if guards else pool
    for path, mutant in sampled(pool, count, name):
        key = hashlib.sha256(f"{judge()} {kernel.identity} {path.name} {mutant}".encode()).hexdigest()[:16]
        row = {"key": key, "kernel": name, "file": path.name, "line": mutant.line, "rule": mutant.rule}
        row |= {"before": mutant.before, "after": mutant.after}
        if key in known:
            yield known[key]
            continue
        reached = lines[str(path.resolve()), mutant.statement]
        with tempfile.TemporaryDirectory() as folder:
            yield row | verdict(kernel, path, mutant, [runs[i] for i in sorted(reached)], Path(folder))


def sampled(pool, count, seed):
    """`count` of the pool, every rule in turn."""
    chance = random.Random(seed)
    by_rule = defaultdict(list)
    for path, mutant in pool:
        by_rule[mutant.rule].append((path, mutant))
    for found in by_rule.values():
        chance.shuffle(found)
    picked = []
    while by_rule and len(picked) < count:
        for rule in sorted(by_rule):
            picked.append(by_rule[rule].pop())
            if not by_rule[rule]:
                del by_rule[rule]
    return picked[:count]


def baseline(kernel):
    """[(problem, config, cases)], and the runs that execute each line: {(file, line): {run}}."""
    runs, lines = jobs(kernel), defaultdict(set)
    for index, (problem, config, cases) in enumerate(runs):
        with traced(lambda file, line, index=index: lines[file, line].add(index)):
            prove(kernel, problem, config, GPU, cases[0])
    return runs, lines


@contextmanager
def traced(note):
    roots, names = (str(registry.KERNELS), str(registry.KERNELS.resolve())), {}

    def trace(frame, event, _):
        file = frame.f_code.co_filename
        if file not in names:
            names[file] = str(Path(file).resolve()) if file.startswith(roots) else ""
        if not names[file]:
            return None
        note(names[file], frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


_truth = {}


def verdict(kernel, path, mutant, runs, folder):
    changed = False
    signal.alarm(TIMEOUT_S)
    try:
        broken = edited(kernel.name, path, mutant.source, folder)
        broken = dataclasses.replace(broken, reference=kernel.reference, decode=kernel.decode)
        for problem, config, cases in runs:
            for case in cases:
                _, got = prove(broken, problem, config, GPU, case)
                here = (kernel.name, problem, config, case)
                if here not in _truth:
                    _truth[here] = prove(kernel, problem, config, GPU, case)[1]
                changed = changed or not same_bits(_truth[here], got)
    except Defect as defect:
        return {"verdict": "killed", "by": defect.kind}
    except WrongResult as wrong:
        return {"verdict": "killed", "by": "budget", "message": str(wrong)[-200:]}
    except TimeoutError:
        return {"verdict": "killed", "by": "timeout"}
    except Exception as error:
        return {"verdict": "stillborn", "by": f"{type(error).__name__}: {str(error)[:100]}"}
    finally:
        signal.alarm(0)
    return {"verdict": "survived" if changed else "same", "by": ""}


def judge():
    """Hash of what judges."""
    root = Path(autotune.tuning.__file__).parent
    files = [path for folder in ("interpreter", "validation") for path in sorted((root / folder).glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def expire(*_):
    raise TimeoutError


signal.signal(signal.SIGALRM, expire)
main()
