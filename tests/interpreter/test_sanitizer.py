"""Planted misuses of memory, six kernels by eight kinds: each is found, and named as it should be."""

import sys
from pathlib import Path

import pytest
from planted_defects import HOLES, PLANTED

from autotune import device, kernels, registry
from autotune.errors import Defect
from autotune.tuning import space
from autotune.tuning.validation.validate import validate

sys.path.insert(0, str(Path(__file__).parents[1] / "soak/mutation"))
from edited import edited, replaced

GPU = device.named("mi355x")
TICKETS = device.named("h200")
"""A device on which the last program of a split adds the parts."""
SHARED = ("gemm/_tiles.py", "gemm/_scales.py", "_tickets.py")


def planted(name, old, new, folder):
    """The broken kernel, and the line of its source that must be named."""
    kernel = registry.load(name)
    files = (kernel.path, *(Path(kernels.__file__).parent / part for part in SHARED))
    path = next(p for p in files if p.exists() and old in p.read_text())
    source = replaced(path.read_text(), old, new)
    lines, before = source.splitlines(), path.read_text().splitlines()
    marked = [i for i, line in enumerate(lines, 1) if "# planted" in line]
    changed = [i for i, (a, b) in enumerate(zip(lines, before, strict=False), 1) if a != b]
    return edited(name, path, source, folder), (marked or changed)[0]


def test_plants_are_of_every_kind_in_every_kernel():
    kinds = [{kind for kind, *_ in plants} for plants in PLANTED.values()]
    assert len(kinds) == 6
    assert all(len(kind) >= 6 for kind in kinds)


@pytest.mark.parametrize(
    ("name", "plant"),
    [(name, plant) for name, plants in PLANTED.items() for plant in plants],
    ids=lambda value: value if isinstance(value, str) else value[0].replace(" ", "-"),
)
def test_planted_defect_is_found_and_named(name, plant, tmp_path):
    kind, argument, old, new = plant
    broken, line = planted(name, old, new, tmp_path)
    with pytest.raises(Defect) as raised:
        gpu = TICKETS if name == "gemm/fp8_block_scaled" else GPU
        for problem in space.load(broken, gpu).check:
            validate(broken, problem, broken.default(problem, gpu), gpu)
    defect = raised.value
    assert (defect.kind, defect.argument) == (kind, argument)
    assert isinstance(defect.offset, int)
    if kind == HOLES:
        assert defect.place == "launcher"
    else:
        assert defect.place.endswith(f"{name.split('/')[1]}.py:{line}") or any(
            file.split("/")[-1] in defect.place for file in SHARED
        )
        assert len(defect.program) == 3
