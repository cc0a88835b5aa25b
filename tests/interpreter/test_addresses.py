"""No 32-bit sum or product reaches an address at the sizes that rows serve."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import small_kernels
import torch
from address_arithmetic import guessed
from small_kernels import Rows, kernel_of

from autotune import device, registry
from autotune.errors import Defect
from autotune.tuning import space
from autotune.tuning.interpreter.addresses import check_addresses
from autotune.tuning.interpreter.index_bounds import declared
from autotune.tuning.session import prover as prover_module
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.prover import Claim, Prover
from autotune.tuning.session.stopwatch import Stopwatch
from autotune.tuning.validation.coverage import grown
from autotune.tuning.validation.validate import validate_addresses

GPU = device.named("h100")
CHECKS = (Rows(1, 24), Rows(5, 100))


def checked(jit, rows, cols):
    kernel, problem = kernel_of(jit, lambda x: x), Rows(rows, cols)
    call = partial(kernel.launch, *problem.inputs(0, "meta"), config=kernel.default(problem, GPU), device=GPU)
    return check_addresses(call, declared(None))


def gathered(bounds, wide=False):
    x, slots = torch.empty((2**23, 512), device="meta"), torch.empty(16, dtype=torch.int32, device="meta")
    return check_addresses(lambda: small_kernels.gather_rows[(1,)](x, slots, 512, WIDE=wide), declared(bounds))


@pytest.mark.parametrize("name", ["offset_in_32_bits", "loop_offset_in_32_bits"])
def test_overflow_of_32_bits_is_named(name):
    jit = getattr(small_kernels, name)
    with pytest.raises(Defect) as raised:
        checked(jit, 262144, 16384)
    defect = raised.value
    assert (defect.kind, defect.argument, defect.place) == ("32-bit overflow", "x_ptr", small_kernels.line_of(jit))
    assert len(defect.program) == 3


@pytest.mark.parametrize(("rows", "cols"), [(131071, 16384), (2084935, 1030)], ids=["all lanes", "active lanes"])
def test_sizes_within_32_bits_are_accepted(rows, cols):
    checked(small_kernels.offset_in_32_bits, rows, cols)


def test_offset_in_64_bits_is_accepted():
    assert checked(small_kernels.offset_in_64_bits, 262144, 16384) == frozenset()


def test_offset_of_declared_index_is_checked():
    with pytest.raises(Defect, match="32-bit overflow: x_ptr"):
        gathered({"slots_ptr": "x_ptr"})
    assert gathered({"slots_ptr": "x_ptr"}, wide=True) == frozenset()
    assert gathered({"slots_ptr": 2**22 - 1}) == frozenset()


def test_undeclared_index_is_told_and_accused_of_nothing():
    assert gathered(None) == {"slots_ptr"}


def test_grid_of_served_size_is_checked():
    with pytest.raises(Defect, match="grid too large"):
        checked(small_kernels.offset_in_64_bits, 2**31, 16)


class OneProcess:
    """Workers that do their tasks at once, in this process."""

    def run(self, task, jobs):
        return [(job, task(job)) for job in jobs]


def proof_of(monkeypatch, jit, serves):
    """The prover's word on a claim to serve `serves`, whose interval is proved on small sizes."""
    kernel = replace(kernel_of(jit, lambda x: x), name="norm/rms_norm")
    monkeypatch.setattr(registry, "load", lambda name: kernel)
    monkeypatch.setattr(space, "load", lambda *_: SimpleNamespace(check=CHECKS))
    monkeypatch.setattr(prover_module, "problems_to_prove", lambda *_: CHECKS)
    monkeypatch.setattr(Subject, "proof_key", lambda *_: ())  # recording launches takes a process without interpreter
    identity = SimpleNamespace(kernel="", proof="")
    subject = Subject(kernel, GPU, identity=identity, toolchain="")
    cache = SimpleNamespace(get=lambda *_: None, put=lambda *_: None)
    prover = Prover(subject, cache, CHECKS, OneProcess(), lambda *_: None, Stopwatch())
    problem = Rows(64, 16384)
    claim = Claim(problem, kernel.default(problem, GPU), serves)
    return prover.prove([claim])[claim]


def test_claim_to_serve_sizes_that_overflow_is_refuted(monkeypatch):
    serves = (("rows", 1, 262144),)
    assert "32-bit overflow" in proof_of(monkeypatch, small_kernels.offset_in_32_bits, serves).failed
    assert proof_of(monkeypatch, small_kernels.offset_in_64_bits, serves).failed is None
    assert proof_of(monkeypatch, small_kernels.offset_in_32_bits, (("rows", 1, 4096),)).failed is None


def test_default_of_kernel_that_overflows_is_found_at_grown_size():
    kernel = kernel_of(small_kernels.offset_in_32_bits, lambda x: x)
    size = grown(kernel, Rows(5, 100), GPU)
    assert size.rows * size.cols > 2**31
    assert 4 * size.rows * size.cols < GPU.dram_gb * 1e9
    with pytest.raises(Defect, match="32-bit overflow"):
        validate_addresses(kernel, size, kernel.default(size, GPU), GPU, declared(None))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.thorough) if name.startswith("moe/") else name for name in registry.names()],
)
def test_addresses_are_exact(name):
    assert guessed(name) == frozenset()
