import sys

import pytest

from autotune import device, registry
from autotune.errors import SpaceError, ToolchainError
from autotune.origin import SPACES
from autotune.toolchain import compilers_for
from autotune.tuning import space

KERNEL = registry.load("norm/rms_norm_quant")
GOOD = """
params: {ROWS: [1, 2], BLOCK: [256, 512], num_warps: [4], num_stages: [1]}
per_arch: {amd: {waves_per_eu: [0]}, nvidia: {num_ctas: [1], maxnreg: [0]}, gfx942: {num_warps: [8]}}
check: [{rows: [1, 3], cols: 256}]
"""


def load(tmp_path, text, name="mi355x"):
    path = tmp_path / "norm" / "rms_norm_quant.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return space.load(KERNEL, device.target(name), tmp_path)


def test_parts_of_arch_replace_lists(tmp_path):
    assert load(tmp_path, GOOD).lists["num_warps"] == (4,)
    assert load(tmp_path, GOOD, "mi300x").lists["num_warps"] == (8,)
    assert "maxnreg" in load(tmp_path, GOOD, "b200").lists


def test_triton_built_for_one_vendor_tunes_for_that_vendor(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton.backends.amd.compiler", None)
    assert "maxnreg" in load(tmp_path, GOOD, "b200").lists
    with pytest.raises(SpaceError, match="params: unknown name 'waves_per_eu'"):
        load(tmp_path, GOOD.replace("ROWS: [1, 2]", "ROWS: [1, 2], waves_per_eu: [0]"), "b200")
    with pytest.raises(ToolchainError, match="without amd's back end, which gfx950 needs"):
        compilers_for.__wrapped__("gfx950")


def test_check_rows_are_products_in_devices_own_fp8(tmp_path):
    assert [p.rows for p in load(tmp_path, GOOD).check] == [1, 3]
    assert {p.dtype for p in load(tmp_path, GOOD, "mi300x").check} == {"e4m3fnuz"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ROWS: [1, 2]", "ROW: [1, 2]", "params: unknown name 'ROW'; did you mean 'ROWS'"),
        ("waves_per_eu", "waves_per_ue", "did you mean 'waves_per_eu'"),
        ("{num_ctas: [1], ", "{waves_per_eu: [1], ", "per_arch: nvidia|nvidia: unknown name 'waves_per_eu'"),
        ("gfx942", "gfx943", "did you mean 'gfx942'"),
        ("check:", "checks:", "did you mean 'check'"),
        ("ROWS: [1, 2]", "ROWS: 1", "ROWS must be a list"),
        ("ROWS: [1, 2]", "ROWS: [1, yes]", "all alike"),
        ("ROWS: [1, 2]", "ROWS: [1, 1]", "names a value twice"),
        ("ROWS: [1, 2], ", "", "params lacks 'ROWS'"),
        ("cols: 256", "cols: 100", "multiple of 128"),
        ("cols: 256", "columns: 256", "unknown problem field 'columns'; did you mean 'cols'"),
        ("check: [{rows: [1, 3], cols: 256}]", "check: []", "at least one problem"),
        ("params:", "params: !!python/object/apply:os.system [x]\nother:", "cannot be read as YAML"),
        ("params:", "[", "cannot be read as YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(SpaceError, match=message):
        load(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize("kernel", registry.names())
@pytest.mark.parametrize("name", [record.name for record in device.records()])
def test_every_space_loads_for_every_device(kernel, name):
    loaded = space.load(registry.load(kernel), device.target(name))
    assert loaded.size > 1
    assert loaded.check


def test_part_of_huawei_takes_constexprs_and_no_warps(tmp_path):
    text = GOOD.replace("per_arch: {", "per_arch: {huawei: {ROWS: [4]}, ")
    assert load(tmp_path, text, "ascend950pr").lists["ROWS"] == (4,)
    assert load(tmp_path, text).lists["ROWS"] == (1, 2)
    with pytest.raises(SpaceError, match=r"huawei: unknown name 'num_warps'"):
        load(tmp_path, text.replace("{ROWS: [4]}", "{num_warps: [4]}"))


def test_problem_field_that_is_no_word_is_refused(tmp_path):
    path = tmp_path / "gemm/fp8_block_scaled.yaml"
    path.parent.mkdir()
    text = (SPACES / "gemm/fp8_block_scaled.yaml").read_text()
    path.write_text(text.replace("check:", "check:\n  - {0: true, m: 1, n: 256, k: 256}", 1))
    with pytest.raises(SpaceError, match="unknown problem field 0"):
        space.load(registry.load("gemm/fp8_block_scaled"), device.named("mi355x"), tmp_path)


@pytest.mark.parametrize("name", registry.names())
def test_every_value_of_space_is_proved_by_some_check_problem(name):
    """A config that no check problem allows can win a search and never ship."""
    kernel, left = registry.load(name), {}
    for gpu in ("mi355x", "h100", "b200"):
        home = device.named(gpu)
        loaded = space.load(kernel, home)
        unseen = {(param, value) for param, values in loaded.lists.items() for value in values}
        for problem in reversed(loaded.check):
            if unseen:
                allowed = space.feasible(loaded, kernel, problem, home)
                unseen -= {pair for config in allowed for pair in config.items()}
        left[gpu] = unseen
    # What one device's limits forbid outright, another's allow.
    assert not set.intersection(*left.values())
