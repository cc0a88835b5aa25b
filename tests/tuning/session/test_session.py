"""Whole sessions through the command line: resume after kill -9, reuse, and clear errors."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autotune import device, registry, table
from autotune.cli import main
from autotune.config import Config, build, describe
from autotune.inputs import captured
from autotune.tuning.search import storage
from autotune.tuning.search.stopping import Budget
from autotune.tuning.search.trials import Study, Trials, journal_path, prefix, read
from autotune.tuning.session import plan as plan_module
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Limits

TUNE = ["tune", "norm/rms_norm_quant", "--device", "mi355x", "--problem", "rows=64,cols=1536", "--jobs", "2"]


def finished(journal):
    if not journal.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return [
        trial
        for study in optuna.study.get_all_study_summaries(storage)
        for trial in optuna.load_study(study_name=study.study_name, storage=storage).get_trials()
        if "outcome" in trial.user_attrs and trial.state == optuna.trial.TrialState.COMPLETE
    ]


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    return tmp_path / "tables"


@pytest.mark.thorough
def test_kill_9_loses_nothing_and_repeats_nothing(tables, state):
    command = [sys.executable, "-m", "autotune", *TUNE, "--trials", "30"]
    journal = state / "journal/mi355x/norm/rms_norm_quant.log"
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(finished(journal)) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = {trial.number: trial.params for trial in finished(journal)}
    assert 5 <= len(before) < 30, "the kill must fall in the middle"
    assert not list(tables.rglob("*.json"))
    result = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    after = finished(journal)
    assert {trial.number: trial.params for trial in after if trial.number in before} == before
    assert len(after) == 30
    assert len({tuple(sorted(trial.params.items())) for trial in after}) == 30
    assert json.loads(result.stdout)[0]["tried"] == 30
    assert len(list(tables.rglob("*.json"))) == 1


@pytest.mark.thorough
def test_second_session_compiles_nothing_and_writes_same_table(tables, capsys):
    assert main([*TUNE, "--trials", "6", "--json"]) == 0
    path = next(tables.rglob("*.json"))
    before = path.read_bytes()
    first = json.loads(capsys.readouterr().out)[0]
    assert first["compiled"] > 0
    assert first["validated"] > 0
    assert main([*TUNE, "--trials", "6", "--again", "--json"]) == 0
    second = json.loads(capsys.readouterr().out)[0]
    assert second["compiled"] == 0
    assert path.read_bytes() == before
    row = table.load(path).rows[0]
    assert row.tier == "modeled"
    assert row.evidence["modeled_speedup_over_default"] >= 1.0
    assert (row.evidence["spills"], row.evidence["matrix"]) == (0, []), "a norm multiplies no matrices"
    kept = row.evidence["finalists"]
    assert 1 <= len(kept) <= 3
    assert all(one.keys() == row.config.keys() and Config(one) != row.config for one in kept)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "gem/fp8_block_scaled", "--device", "mi355x"], "did you mean 'gemm/fp8_block_scaled'"),
        (["tune", "--device", "mi355"], "did you mean 'mi355x'"),
        (["tune", "--device", "mi355x", "--model", "deepseek-v4-por"], "did you mean 'deepseek-v4-pro'"),
        (["tune", "--device", "mi355x", "--scenario", "8k2k"], "did you mean '8k1k'"),
        (["tune", "--device", "mi355x", "--trials", "0"], "at least 1"),
        (["explain", "gemm/fp8_block_scaled", "m=1,n=2,kk=128", "--device", "mi355x"], "did you mean 'k'"),
        (["explain", "gemm/fp8_block_scaled", "m=x", "--device", "mi355x"], "m must be an integer"),
        (["explain", "gemm/fp8_block_scaled", "m=1,n=2,k=100", "--device", "mi355x"], "multiple of 128"),
        (["compile", "gemm/fp8_block_scaled", "--target", "sm_91"], "to add sm_91, give it a record in"),
        (["compile", "gemm/fp8_block_scaled", "--config", "BLOCK=3"], "did you mean 'BLOCK_"),
        (["compile", "gemm/fp8_block_scaled", "--config", "BLOCK_M=--64"], "must be an integer or true/false"),
        (["compile", "gemm/fp8_block_scaled", "--config", "BLOCK_M=\u00b2"], "must be an integer or true/false"),
    ],
)
def test_usage_errors_exit_2_with_remedy(arguments, message, capsys, tables):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert not captured.out
    assert not tables.exists()


def test_without_gpu_session_wants_device(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["tune"]) == 2
    assert "name a device, such as mi355x" in capsys.readouterr().err


def test_damaged_table_stops_session_and_stays_as_it_was(tables, capsys):
    path = tables / "gfx950/mi355x/norm/rms_norm_quant.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 1}')
    assert main([*TUNE, "--trials", "2"]) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == '{"format": 1}'


@pytest.mark.parametrize("arguments", [["list"], ["devices"], ["doctor"], ["show", "--device", "mi355x"]])
def test_reports_speak_json_and_text(arguments, capsys):
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.thorough
def test_compile_prints_every_target_or_its_reason(capsys):
    targets = ["sm_80", "sm_90", "sm_100", "sm_103", "gfx942", "gfx950"]
    assert main(["compile", "moe/mxfp4_grouped_gemm", "--target", ",".join(targets), "--json"]) == 0
    rows = {row["target"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == targets
    assert "fp8e4nv not supported" in rows["sm_80"]["reason"]
    assert any(name.startswith("v_mfma_scale_f32") for name in rows["gfx950"]["matrix instructions"])
    for arch in ("sm_100", "sm_103"):
        assert any("block_scale" in name for name in rows[arch]["matrix instructions"])
    assert all((row["reason"] is None) != (row["registers"] is None) for row in rows.values())


def test_trials_of_another_model_are_another_study(tmp_path, monkeypatch):
    """A modeled time of the last release must not outrank this one's."""
    names = []
    for model in ("model:1", "model:2"):
        monkeypatch.setattr(plan_module, "model_name", lambda _, model=model: model)
        plan = Plan(tmp_path / "tables", tmp_path / "state")
        session = Session(registry.load("norm/rms_norm_quant"), device.named("mi355x"), plan, lambda status: None)
        names.append(session._study(registry.load("norm/rms_norm_quant").problem(64, 4096), None))
    studies = [Study.named(name) for name in names]
    assert [study.name for study in studies] == names
    assert [study.bench.partition("-")[0] for study in studies] == ["model:1", "model:2"]
    assert not any(study.measured for study in studies)


def tuned(tmp_path, cols):
    kernel = registry.load("norm/rms_norm_quant")
    plan = Plan(tmp_path / "tables", tmp_path / "state", Budget(trials=1), limits=Limits(processes=1))
    session = Session(kernel, device.named("mi355x"), plan, lambda status: None)
    session.run({kernel.problem(64, cols): 1})
    return kernel, session.summary.table


@pytest.mark.thorough
def test_changed_reference_has_old_rows_proved_again(tmp_path):
    kernel, path = tuned(tmp_path, 1536)
    assert table.load(path).proof == kernel.identity.proof
    wrong = dict(table.load(path).rows[0].problem) | {"cols": 512}
    right = replace(table.load(path).rows[0], problem=tuple(wrong.items()))
    broken = replace(right, problem=tuple((wrong | {"gone": 1}).items()))
    old = table.load(path)
    table.save(replace(old, proof="of another reference", rows=(*old.rows, right, broken)), path)
    _, path = tuned(tmp_path, 1536)
    made = table.load(path)
    assert made.proof == kernel.identity.proof
    assert {row.problem for row in made.rows} == {old.rows[0].problem, right.problem}


@pytest.mark.thorough
def test_changed_kernel_drops_old_rows(tmp_path):
    kernel, path = tuned(tmp_path, 1536)
    old = table.load(path)
    table.save(replace(old, source="of another kernel"), path)
    _, path = tuned(tmp_path, 512)
    assert [dict(row.problem)["cols"] for row in table.load(path).rows] == [512]
    assert table.load(path).source == kernel.identity.kernel


def test_trials_of_earlier_source_are_left_alone(tmp_path):
    """Its problems may have had fields that no longer exist."""
    kernel = registry.load("norm/rms_norm_quant")
    trials = storage.journal(journal_path(tmp_path, "mi355x", kernel.name))
    now = describe(kernel.problem(64, 4096))
    for problem, source in (("rows=64,gone=1", "0123456789abcdef"), (now, kernel.identity.kernel)):
        study = optuna.create_study(storage=trials, study_name=Study(problem, source, "triton 3.9.0", 0, "gpu").name)
        trial = study.ask({"ROWS": optuna.distributions.CategoricalDistribution((1,))})
        trial.set_user_attr("outcome", '{"us": 1.0}')
        study.tell(trial, 1.0)
    (found,) = read(tmp_path, "mi355x", kernel)
    assert (describe(found.problem), found.outcomes) == (now, ((Config(ROWS=1), {"us": 1.0}),))


def test_captured_loads_of_384_experts_fit_a_file_name(tmp_path):
    kernel = registry.load("moe/mxfp4_grouped_gemm")
    known = {"tokens": 64, "topk": 6, "experts": 384, "n": 512, "k": 7168}
    loads = [captured([*range(1, 384), last]) for last in (1, 383)]
    problems = [build(kernel.problem, known | {"routing": load}, "test") for load in loads]
    studies = [Study(describe(problem), kernel.identity.kernel, "triton 3.9.0", 0, "gpu") for problem in problems]
    for study, problem in zip(studies, problems, strict=True):
        path = tmp_path / f"{Trials(kernel.name, 'mi355x', study, problem, ()).label}.t4.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    long, other = (storage.database_name(study.name) for study in studies)
    assert len(long) == len(other) == 512
    assert long != other
    assert storage.database_name("short") == "short"


def test_long_study_name_is_read_back_from_database(tmp_path):
    kernel, database = registry.load("moe/mxfp4_grouped_gemm"), storage.database(f"sqlite:///{tmp_path}/trials.db")
    fields = {"tokens": 64, "topk": 6, "experts": 384, "n": 512, "k": 7168, "routing": captured(list(range(1, 385)))}
    problem = build(kernel.problem, fields, "test")
    name = Study(describe(problem), kernel.identity.kernel, "triton 3.9.0", 0, "gpu").name
    study = storage.study_called(prefix(kernel.name, "mi355x") + name, database)
    trial = study.ask({"BLOCK_M": optuna.distributions.CategoricalDistribution((16,))})
    trial.set_user_attr("outcome", '{"us": 1.0}')
    study.tell(trial, 1.0)
    (trials,) = read(tmp_path, "mi355x", kernel, database)
    assert trials.problem == problem
    assert not list(read(tmp_path, "mi350x", kernel, database))
