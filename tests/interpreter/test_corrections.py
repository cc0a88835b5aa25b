"""The interpreter's arithmetic, corrected and as it comes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import small_kernels
import torch
from bf16_arithmetic import conversions, dots, operations

from autotune.tuning.interpreter.corrections import correct_interpreter


def test_corrected_interpreter_agrees_with_torch():
    correct_interpreter()
    assert (dots(1000), operations(1000), conversions()) == (0, 0, 0)


@pytest.mark.thorough
def test_interpreter_as_it_comes_is_wrong():
    """In a process of its own: corrections last as long as the process."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("bf16_arithmetic.py"))]
    wrong = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert wrong["dots"] > 900, "bf16 dots became right in this Triton: the correction can go"
    assert wrong["operations"] > 300


def test_float_argument_is_float32_scalar_of_device():
    correct_interpreter()
    x, y = torch.full((16,), 1.0, dtype=torch.bfloat16), torch.empty(16)
    small_kernels.scaled_by_argument[(1,)](y, x, 16, 1 + 2.0**-10, BLOCK=16)
    assert y.tolist() == [2 * (1 + 2.0**-10)] * 16, "bf16 would have rounded the scale away"


@pytest.mark.parametrize(("row", "expected"), [(2, 1.0), (3, 0.0)])
def test_comparison_of_scalar_masks_block(row, expected):
    correct_interpreter()
    x, y = torch.ones(16), torch.full((16,), 9.0)
    small_kernels.masked_by_scalar[(1,)](y, x, torch.tensor([row]), 3, BLOCK=16)
    assert y.tolist() == [expected] * 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maximum_of_nan_and_number_is_number(dtype):
    correct_interpreter()
    x, y = torch.tensor([torch.nan, 1.0, torch.nan, 2.0]).to(dtype), torch.tensor([3.0, torch.nan, torch.nan, 5.0])
    out = torch.empty(8, dtype=dtype)
    small_kernels.larger_and_smaller[(1,)](out, x, y.to(dtype), 4)
    expected = torch.tensor([3.0, 1.0, torch.nan, 5.0, 3.0, 1.0, torch.nan, 2.0])
    assert torch.equal(out.float().nan_to_num(-1), expected.nan_to_num(-1))
