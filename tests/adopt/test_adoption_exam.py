"""The exam of adoption: which kernels of a package it counts, and what its page says of results."""

import sys

import pytest

from benchmarks.adopt.described import DESCRIBED, described

KERNELS = """
import triton
import triton.language as tl


@triton.jit
def _helper(x):
    return x + 1


@triton.jit
def kernel(x_ptr):
    tl.store(x_ptr, _helper(tl.load(x_ptr)))


@triton.autotune([triton.Config({"B": 16})], key=[])
@triton.jit
def tuned(x_ptr, B: tl.constexpr):
    tl.store(x_ptr, B)


if False:
    @triton.jit
    def elsewhere(x_ptr):
        tl.store(x_ptr, 0)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with kernels that can be read, with some whose module cannot be imported, and for NPUs."""
    folder = tmp_path / "their_package"
    for name, head in {"kernels": "", "absent": "import no_such_package\n", "ascend_ops": ""}.items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(head + KERNELS)
    (folder / "plain.py").write_text("raise AssertionError('imported, though it has no Triton code')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_exam_counts_kernels_and_no_helpers(package):
    found = dict(described(package))
    absent = "its module is not imported: ModuleNotFoundError: No module named 'no_such_package'"
    assert found == {
        "their_package.absent:kernel": absent,
        "their_package.absent:tuned": absent,
        "their_package.absent:elsewhere": absent,
        "their_package.kernels:kernel": DESCRIBED,
        "their_package.kernels:tuned": DESCRIBED,
        "their_package.kernels:elsewhere": "its module makes it on other machines only",
    }


RESULTS = {
    "described": {"theirs": {"theirs.a:f": DESCRIBED, "theirs.a:g": "is a Gluon kernel", "theirs.b:h": DESCRIBED}},
    "adopted": {"theirs.a:f": "proved"},
    "made": {"theirs.b:h": "not proved: WrongResult: y[3, 17] is 0.5"},
    "compiled": {
        "theirs.a:f": dict.fromkeys(("sm_90", "sm_100", "sm_120", "gfx942", "gfx950"), ""),
        "theirs.b:h": {**dict.fromkeys(("sm_90", "sm_100", "sm_120", "gfx942"), ""), "gfx950": "does not fit"},
    },
}


def test_page_counts_kernels_and_names_causes(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "")  # the exam sets it; here it is put back
    from benchmarks.adopt.exam import page

    text = page(RESULTS, {"theirs": "1.2"}, "2026-11-30")
    assert "**2 of 3 kernels (67%) can be read. Of 2 that were tried, 1 (50%) are proved; " in text
    assert "of 2 that were compiled, 1 (50%) compile on five archs" in text
    assert "| theirs 1.2 | 3 | 2 | 1 | 1 | 1 of 1 | 1 | 0 | 0 of 1 |" in text
    assert "| is a Gluon kernel | 1 |" in text
    assert "| not proved: WrongResult: y[N] is N | 1 |" in text
    assert "| does not fit | 1 |" in text
