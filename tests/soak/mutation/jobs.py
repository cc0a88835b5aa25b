"""Which problems and configs stand for what tuning one kernel proves."""

import random

from autotune import device
from autotune.config import describe
from autotune.tuning import space
from autotune.tuning.validation.cases import cases_of

GPU = device.named("mi355x")
_LAUNCH = {"num_warps", "num_stages", "waves_per_eu", "matrix_instr_nonkdim"}
_MOST_STEPS = 64
_EXTRA = 4


def steps(kernel, problem, config):
    work = kernel.work(problem, config, GPU)
    return work.programs * work.iterations


def jobs(kernel):
    """(problem, config, cases): defaults; up to four configs with values that no default has, on two problems each."""
    loaded = space.load(kernel, GPU)
    chosen = [(problem, kernel.default(problem, GPU)) for problem in loaded.check]
    seen = {pair for _, config in chosen for pair in shape(config)}
    pool = []
    for problem in loaded.check:
        allowed = space.feasible(loaded, kernel, problem, GPU)
        pool += [(problem, c) for c in random.Random(describe(problem)).sample(allowed, min(60, len(allowed)))]
    pool = [(p, c) for p, c in pool if steps(kernel, p, c) <= _MOST_STEPS]
    for _ in range(_EXTRA):
        problem, config = max(pool, key=lambda pair: len(shape(pair[1]) - seen), default=(None, None))
        if config is None or not shape(config) - seen:
            break
        seen |= shape(config)
        others = [p for p in loaded.check if p != problem and kernel.reject(p, config, GPU) is None]
        chosen += [(problem, config), *((p, config) for p in others[-1:] if steps(kernel, p, config) <= _MOST_STEPS)]
    ordered = sorted(dict.fromkeys(chosen), key=lambda pair: steps(kernel, *pair))
    return [(p, c, cases_of(kernel, p, c, GPU, loaded.check)) for p, c in ordered]


def shape(config):
    """Parameters that change the code that the interpreter runs."""
    return {(name, value) for name, value in config.items() if name not in _LAUNCH}
