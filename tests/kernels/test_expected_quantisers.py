"""Expected outputs of quantisers: what a scale may be, in groups of zeros too."""

import pytest
import torch

from autotune.errors import WrongResult
from autotune.kernels._quant import expect_mx
from autotune.tuning.validation.error_budget import spent


@pytest.mark.parametrize("kind", ["e2m1", "e4m3fn", "e4m3fnuz"])
def test_smaller_scale_of_a_group_of_zeros_is_wrong(kind):
    y = torch.zeros(1, 64, dtype=torch.float64)
    _, exponent = expect_mx("q", y, y, kind)
    assert spent(exponent, torch.full((1, 2), -120.0)) == 0
    with pytest.raises(WrongResult, match="is -127, must be -120"):
        spent(exponent, torch.tensor([[-120.0, -127.0]]))


def test_either_neighbour_of_a_power_of_two_is_right():
    y = torch.full((1, 32), 6.0, dtype=torch.float64)  # 6 / 6 is 2^0; a hair more is 2^1
    _, exponent = expect_mx("q", y, y * 2.0**-22, "e2m1")
    for right in (0.0, 1.0):
        spent(exponent, torch.full((1, 1), right, dtype=torch.float64))
    with pytest.raises(WrongResult):
        spent(exponent, torch.full((1, 1), 2.0, dtype=torch.float64))
