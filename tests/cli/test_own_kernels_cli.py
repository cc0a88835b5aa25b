"""Commands over kernels outside the package; a broken file stops none of the work on others."""

import json
import shutil

import pytest

from autotune import device, own_parts, registry, table
from autotune.check import compilers
from autotune.check.builder import Builder
from autotune.check.call import CheckedCall
from autotune.cli import main
from autotune.config import key
from autotune.state import state_root
from autotune.tuning.jobs import compile_job
from autotune.tuning.session.ray_executor import _Actor
from autotune.tuning.workers.worker import Job, Limits, Workers

GPU = device.named("mi355x")
PROBLEM = "rows=5,cols=512"


@pytest.fixture
def unfinished(own):
    """The folder with one kernel that works and one that does not."""
    (own / "unfinished.py").write_text("def unfinished(:\n")
    return own


def test_list_tells_a_broken_file_and_shows_the_others(unfinished, capsys):
    assert main(["list", str(unfinished)]) == 1
    out, err = capsys.readouterr()
    assert "own/softmax" in out
    assert "own/unfinished" not in out
    assert "unfinished.py:1: SyntaxError" in err


def test_list_of_all_survives_a_broken_file_and_space(unfinished, capsys, monkeypatch):
    shutil.copy(unfinished / "softmax.py", unfinished / "mangled.py")
    (unfinished / "mangled.yaml").write_text("params:\n  ROWS: [1, 2\n")
    registry.named(str(unfinished))
    assert main(["list", "--json"]) == 1
    out, err = capsys.readouterr()
    names = {row["kernel"] for row in json.loads(out)["kernels"]}
    assert {"own/softmax", "norm/rms_norm"} <= names
    assert not names & {"own/unfinished", "own/mangled"}
    assert "mangled.yaml:3: cannot be read as YAML" in err


@pytest.mark.parametrize(
    "words", [["compile"], ["validate", "--device", "mi355x"], ["predict", PROBLEM, "--device=h100"]]
)
def test_command_about_a_broken_file_ends_with_its_place(words, unfinished, capsys):
    assert main([words[0], str(unfinished / "unfinished.py"), *words[1:]]) == 2
    assert "unfinished.py:1: SyntaxError" in capsys.readouterr().err


def test_kernel_without_space_names_the_file_it_needs(own, capsys):
    (own / "softmax.yaml").unlink()
    assert main(["compile", str(own / "softmax.py"), "--target", "gfx950"]) == 2
    assert f"{own}/softmax.yaml: a kernel needs this file" in capsys.readouterr().err


@pytest.mark.thorough
def test_folder_is_compiled_beside_a_broken_file(unfinished, capsys):
    assert main(["compile", str(unfinished), "--target", "gfx950", "--json"]) == 1
    out, err = capsys.readouterr()
    assert [row["kernel"] for row in json.loads(out)] == ["own/softmax"]
    assert "left out: " in err


def test_rows_of_own_kernels_need_a_folder_of_ones_own(own, capsys):
    for more in ([], ["--tables", str(registry.KERNELS.parent / "tuned_configs")]):
        assert main(["tune", str(own), "--device", "mi355x", "--problem", PROBLEM, *more]) == 2
        assert "own/softmax: tables of kernels outside this package" in capsys.readouterr().err


@pytest.mark.thorough
def test_own_kernel_is_tuned_served_and_linted(own, tmp_path, monkeypatch, capsys):
    tables = tmp_path / "tables"
    words = ["--device", "mi355x", "--problem", PROBLEM, "--tables", str(tables), "--trials", "2", "--jobs", "1", "-q"]
    assert main(["tune", str(own / "softmax.py"), *words]) == 0
    made = table.load(tables / "gfx950/mi355x/own/softmax.json")
    assert made.kernel == "own/softmax"
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tables))
    capsys.readouterr()
    assert main(["explain", str(own), PROBLEM, "--device", "mi355x"]) == 0
    assert "exact" in capsys.readouterr().out
    assert main(["lint", str(own), "--tables", str(tables)]) == 0


def test_table_makes_no_file_known(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(own.parent)
    (own / "softmax.py").write_text("raise AssertionError('imported')\n")
    path = tmp_path / "tables/gfx950/mi355x/own/softmax.json"
    table.save(table.Table("own/softmax", "gfx950", "mi355x", "0" * 16, ()), path)
    assert main(["lint", "--tables", str(tmp_path / "tables")]) == 1
    assert "no kernel own/softmax is known here" in " ".join(capsys.readouterr().out.split())


def test_workers_of_every_kind_know_own_kernels(own, state):
    (name,) = registry.named(str(own))
    kernel = registry.load(name)
    problem = kernel.problem(5, 512)
    job = Job(name, key(problem), kernel.default(problem, GPU), GPU.name)
    with Workers(Limits(processes=1), state) as workers:
        ((_, result),) = workers.run(compile_job, [job])
    assert "resources" in result
    parts = own_parts.of_this_process()
    assert parts.kernels
    registry._named.clear()
    _Actor(Limits(processes=1), state, False, parts)
    assert own_parts.of_this_process() == parts


@pytest.mark.thorough
def test_release_check_builds_own_kernels_with_their_helpers(own, state):
    (own / "_sizes.py").write_text("MOST = 8192\n")
    path = own / "softmax.py"
    text = path.read_text().replace("\n@dataclass", "\nfrom ._sizes import MOST\n\n@dataclass", 1)
    path.write_text(text.replace("    y = torch", "    assert x.shape[1] <= MOST\n    y = torch", 1))
    (name,) = registry.named(str(path))
    kernel = registry.load(name)
    problem = kernel.problem(5, 512)
    call = CheckedCall(kernel, problem, kernel.default(problem, GPU), GPU)
    builder = Builder(state_root(), Limits(processes=1), lambda *_: None)
    (build,) = builder.builds(compilers.installed(), [call]).values()
    assert build.resources is not None, build
