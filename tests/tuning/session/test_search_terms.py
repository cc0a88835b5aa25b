"""A session of an unchanged kernel does nothing, and one of whose terms any changed searches again and says which."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from autotune import device, registry, table
from autotune.cli import main
from autotune.config import Config, describe
from autotune.origin import SPACES
from autotune.tuning import space
from autotune.tuning.cost_model import prior
from autotune.tuning.search.stopping import Budget
from autotune.tuning.search.study import Search
from autotune.tuning.session import search_terms
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.opening import Opener
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.prover import Proof, Prover
from autotune.tuning.session.session import Session
from autotune.tuning.session.stopwatch import Stopwatch

NORM, GPU = registry.load("norm/rms_norm_quant"), device.named("mi355x")
TUNE = ["tune", NORM.name, "--device", GPU.name, "--problem", "rows=16,cols=256", "--trials", "2", "--jobs", "1"]


def unproved(self, claims):
    """Proofs, which are not the matter here, pass at once."""
    return {claim: Proof((describe(claim.problem),), 0.5) for claim in claims}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The folder of a table with one row, as a session with the terms of TUNE left it."""
    root = tmp_path_factory.mktemp("tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prover, "prove", unproved)
        patch.setenv("AUTOTUNE_STATE", str(root / "state"))
        assert main([*TUNE, "--tables", str(root / "tables")]) == 0
    return root / "tables"


@pytest.fixture
def tables(tuned, tmp_path, monkeypatch):
    """A copy of it, as in a fresh clone: no state of earlier sessions."""
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    shutil.copytree(tuned, tmp_path / "tables")
    return tmp_path / "tables"


@pytest.fixture
def searched(monkeypatch):
    """Problems that sessions search, none of which is tuned really."""
    asked = []

    def tune(self, problems, old, trials):
        asked.extend(problems)
        self.summary.problems += len(problems)
        return old

    monkeypatch.setattr(Session, "_tune", tune)
    return asked


def path_of(tables):
    return table.path_of(tables, GPU.arch, GPU.name, NORM.name)


def test_session_of_unchanged_kernel_does_nothing(tables, searched, capsys):
    before = path_of(tables).read_bytes()
    assert main(TUNE) == 0
    assert "up to date, 1 row of the same search (modeled, not measured)" in capsys.readouterr().out
    assert path_of(tables).read_bytes() == before
    assert not searched


def test_only_problems_without_such_a_row_are_searched(tables, searched, capsys):
    assert main([*TUNE, "--problem", "rows=32,cols=256"]) == 0
    assert [problem.rows for problem in searched] == [32]
    assert "kept      1 row up to date" in capsys.readouterr().out


def other_toolchain(patch, tables):
    patch.setattr("autotune.tuning.session.compiler.compilers_for", lambda arch: "triton 9.9.0")


def other_space(patch, tables):
    folder, load = tables.parent / "spaces", space.load
    text = (SPACES / f"{NORM.name}.yaml").read_text()
    path = folder / f"{NORM.name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("num_warps: [1, 2, 4, 8],", "num_warps: [1, 2, 4],"))
    assert path.read_text() != text
    patch.setattr(space, "load", lambda kernel, gpu: load(kernel, gpu, folder))


def other_check_problems(patch, tables):
    load = space.load
    patch.setattr(space, "load", lambda kernel, gpu: fewer_checks(load(kernel, gpu)))


def fewer_checks(known):
    return dataclasses.replace(known, check=known.check[1:])


def other_model(patch, tables):
    patch.setattr(search_terms, "model_name", lambda gpu: "model:00000000")


def other_sampler_code(patch, tables):
    patch.setattr(search_terms, "_code", lambda: "00000000")


def edited(change):
    def edit(patch, tables):
        table.update(path_of(tables), lambda now: dataclasses.replace(now, rows=(change(*now.rows),)))

    return edit


def other_config(row):
    warps = 2 * row.config.size("num_warps") % 8
    return dataclasses.replace(row, config=Config({**row.config, "num_warps": max(1, warps)}))


def other_inputs(row):
    return dataclasses.replace(row, evidence={**row.evidence, "inputs": {"routing": "zipf:1.2"}})


def without_terms(row):
    return dataclasses.replace(row, evidence={name: row.evidence[name] for name in row.evidence if name != "searched"})


def nothing(patch, tables):
    pass


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (nothing, ["--trials", "3"], "trials (1)"),
        (nothing, ["--trials", "1"], "trials (1)"),
        (nothing, ["--seed", "1"], "seed (1)"),
        (nothing, ["--sampler", "random"], "sampler (1)"),
        (nothing, ["--until-gain", "1"], "until_gain (1)"),
        (other_toolchain, [], "toolchain (1)"),
        (other_space, [], "space (1)"),
        (other_check_problems, [], "space (1)"),
        (other_model, [], "model (1)"),
        (other_sampler_code, [], "code (1)"),
        (edited(other_config), [], "search (1)"),
        (edited(other_inputs), [], "inputs (1)"),
        (edited(without_terms), [], "search (1)"),
        (nothing, ["--again"], ""),
        (nothing, ["--retry-crashed"], ""),
    ],
)
def test_changed_terms_are_searched_again(change, options, words, tables, searched, capsys):
    with pytest.MonkeyPatch.context() as patch:
        change(patch, tables)
        assert main([*TUNE, *options]) == 0
    assert [problem.rows for problem in searched] == [16]
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if "found with another" in line]
    assert told == ([f"since     rows were found with another: {words}"] if words else [])


@pytest.mark.parametrize("change", [{"source": "of another kernel"}, {"proof": "of another reference"}, {"proof": ""}])
def test_table_of_other_kernel_or_reference_is_searched_again(change, tables, searched):
    table.update(path_of(tables), lambda now: dataclasses.replace(now, **change))
    assert main(TUNE) == 0
    assert len(searched) == 1


def test_row_that_was_measured_is_searched_as_ever(tables, searched):
    edited(lambda row: dataclasses.replace(row, tier="measured"))(None, tables)
    assert main(TUNE) == 0
    assert len(searched) == 1


def test_rows_of_a_session_out_of_time_have_no_terms(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(Prover, "prove", unproved)
    told, tell = [], Search.tell
    monkeypatch.setattr(Search, "tell", lambda self, *trial: (told.append(trial), tell(self, *trial)))
    monkeypatch.setattr(Budget, "out_of_time", lambda self: bool(told))
    assert main([*TUNE, "--minutes", "1", "--tables", str(tmp_path / "tables")]) == 0
    (row,) = table.load(path_of(tmp_path / "tables")).rows
    assert "searched" not in row.evidence


def test_learned_prior_counts_where_it_applies(tmp_path):
    other = tmp_path / "prior.json"
    other.write_text(prior.PATH.read_text() + "\n")

    def found(kernel, path):
        subject, known = Subject.of(kernel, GPU), space.load(kernel, GPU)
        opener = Opener(subject, known, Path(path), Stopwatch(), Budget())
        return search_terms.terms(subject, known, opener, Plan(tmp_path, tmp_path), known.check[0]).fields

    gemm = registry.load("gemm/fp8_block_scaled")
    assert found(gemm, prior.PATH) != found(gemm, other)
    assert found(NORM, prior.PATH) == found(NORM, other)
