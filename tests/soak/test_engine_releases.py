"""Real releases of vLLM and SGLang, out of their wheels: every cell of the matrix is right."""

import pytest

from benchmarks.engines import matrix


@pytest.mark.slow
@pytest.mark.parametrize("release", matrix.RELEASES)
def test_release_is_right_in_every_cell(release, tmp_path):
    assert set(matrix.cells(release, tmp_path).values()) == {"right"}
