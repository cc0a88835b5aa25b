"""`autotune validate --strict`: each rule is told where it is broken, with a way to mend it, and nowhere else."""

import pytest

from autotune import device, registry
from autotune.check.kernel_rules import breaches
from autotune.cli import main

GPU = device.named("mi355x")
BROKEN = {
    "documented": (('"""x bf16 [rows, cols], contiguous -> bf16 [rows, cols]."""', "..."), "say in its docstring"),
    "told by calls": (("cls(args.x.shape[0], args.x.shape[1])", "cls(args.x.shape[0], 7)"), "name fields that no call"),
    "seeded": (("Draw(seed, device)", "Draw(0, device)"), "autotune.inputs.Draw"),
    "default in space": (("num_warps=4", "num_warps=3"), "add 3 to num_warps"),
    "arguments checked": (("x.dtype != torch.bfloat16", "False"), "raise ValueError unless x has its dtype"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_breach_is_told_with_its_remedy(rule, loaded):
    edit, remedy = BROKEN[rule]
    (breach,) = breaches(loaded(edit), GPU)
    assert breach.rule == rule
    assert remedy in breach.remedy


def test_error_that_names_no_argument_is_a_breach(loaded):
    (breach,) = breaches(loaded(('raise ValueError(f"x must', 'raise ValueError(f"it must')), GPU)
    assert "does not name it" in breach.what


def test_default_outside_its_own_rules_is_a_breach(loaded):
    (breach,) = breaches(loaded(("triton.next_power_of_2(problem.cols)", "128")), GPU)
    assert "reject refuses the default config" in breach.what


def test_new_kernel_obeys_every_rule(loaded):
    assert not list(breaches(loaded(), GPU))


@pytest.mark.thorough
@pytest.mark.parametrize("name", registry.names())
def test_every_kernel_here_obeys_the_rules(name):
    assert not list(breaches(registry.load(name), GPU))


@pytest.mark.thorough
def test_strict_adds_rules_to_proofs(own, capsys):
    path = own / "softmax.py"
    path.write_text(path.read_text().replace("num_warps=4", "num_warps=16"))
    assert main(["validate", str(path), "--device", "mi355x", "--strict"]) == 1
    out = capsys.readouterr().out
    assert "rules" in out and "right" in out
    assert "num_warps" in out
