"""Faults of the machine end a session with cause and remedy, and leave nothing behind that a config is blamed for."""

import os
import resource
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_scheduler import Pool
from triton.backends.nvidia.compiler import get_ptxas

from autotune import device, registry, table
from autotune.cli import main
from autotune.config import build, key
from autotune.errors import MachineError
from autotune.table import Row
from autotune.tuning.measurement.simulated import Faults, Modeled, Simulated, SimulatedMeter
from autotune.tuning.search import trials
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session.blame import reason
from autotune.tuning.session.executors import Executors, lane
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.process import Isolated, Lost, Start
from autotune.tuning.workers.worker import Limits, Workers

KERNEL, DEVICE = "norm/rms_norm_quant", "h100"
TUNE = ["tune", KERNEL, "--device", DEVICE, "--problem", "rows=16,cols=256", "--trials", "3", "--jobs", "1"]


@pytest.fixture
def unproved(monkeypatch):
    """Sessions end at the search: proofs take most of their time, and none is of interest here."""
    monkeypatch.setattr(Session, "_promote", lambda session, searched, old, evaluator: old)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Trials of the command on a machine without fault."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("undisturbed")
        patch.setenv("AUTOTUNE_STATE", str(root))
        patch.setenv("AUTOTUNE_TABLES", str(root / "tables"))
        patch.setattr(Session, "_promote", lambda session, searched, old, evaluator: old)
        assert main(TUNE) == 0
        return tried(root)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    return tmp_path / "tables"


def tried(state):
    """How each trial ended, in the order asked."""
    (study,) = trials.read(state, DEVICE, registry.load(KERNEL))
    return study.outcomes


def blamed(state):
    """Trials and results that a fault has left; `failed` stands in every record of a failure."""
    files = [path for path in state.rglob("*") if path.is_file() and path.parts[-2:-1] != ("triton",)]
    return [path for path in files if "failed" in path.read_text(errors="replace")]


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@contextmanager
def assembler_that_crashes(tmp_path, state):
    real = get_ptxas(90).path
    path = script(tmp_path / "ptxas", f'[ "$1" = --version ] && exec {real} --version\nkill -SEGV $$')
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"):
            patch.setenv(name, path)
        yield "given an empty module, ends with code -11; install Triton again"


@contextmanager
def assembler_that_does_not_run(tmp_path, state):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_PTXAS_PATH", script(tmp_path / "ptxas", "echo no licence >&2; exit 1"))
        yield "ends with code 1 (no licence); correct or unset TRITON_PTXAS_PATH"


@contextmanager
def cache_that_cannot_be_written(tmp_path, state):
    state.mkdir()
    (state / "triton").touch()
    yield f"{state}/triton"
    (state / "triton").unlink()


@contextmanager
def disk_that_is_full(tmp_path, state):
    """For the session's own files: the journal outgrows the limit after some trials."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        yield "free space there"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


RARER = (assembler_that_crashes, assembler_that_does_not_run, cache_that_cannot_be_written)


@pytest.mark.usefixtures("tables", "unproved")
@pytest.mark.parametrize(
    "fault",
    [disk_that_is_full, *(pytest.param(fault, marks=pytest.mark.thorough) for fault in RARER)],
    ids=lambda fault: fault.__name__,
)
def test_machine_fault_is_named_and_gone_once_repaired(fault, tmp_path, state, undisturbed, capsys):
    with fault(tmp_path, state) as message:
        assert main(TUNE) == 2
        said = capsys.readouterr()
        assert message in said.err
        assert "run the same command again" in said.err
        assert not said.out
        assert not blamed(state)
    assert main(TUNE) == 0
    if fault is not disk_that_is_full:  # which tore the line of a trial, so that other draws followed
        assert tried(state) == undisturbed
    assert len(tried(state)) == len(undisturbed)
    assert not any("failed" in outcome for _, outcome in tried(state))


@dataclass(frozen=True)
class Driver:
    """A surface whose driver raises for all configs but the first `healthy` ones while the file `broken` exists."""

    broken: Path
    healthy: int = 0

    def us(self, job):
        if self.broken.exists():
            asked = self.broken.read_text().split("\n")
            self.broken.write_text("\n".join([*asked, str(job.config)]))
            if len(asked) > self.healthy:
                raise RuntimeError("CUDA error: unknown error")
        return Modeled(3).us(job)


@contextmanager
def uncompiled(limits, state, bench):
    """Measuring processes are real; nothing is compiled for them."""
    with lane(limits, state) as measuring:
        yield Executors(Pool(1, lambda job: None), [measuring])


def session(folder, bench, count=8, **limits):
    kernel = registry.load(KERNEL)
    plan = Plan(
        folder / "t", folder / "s", Budget(count), limits=Limits(processes=1, **limits), bench=bench, start=uncompiled
    )
    problem = build(kernel.problem, {"rows": 64, "cols": 1536}, "test")
    return Session(kernel, device.named("mi355x"), plan, lambda status: None).run({problem: 1})


def outcomes(folder, bench):
    found = trials.read(folder / "s", bench.table_device("mi355x"), registry.load(KERNEL))
    return [one.outcomes for one in found]


@pytest.mark.usefixtures("unproved")
@pytest.mark.parametrize(
    ("healthy", "message"),
    [(0, "the default config failed"), pytest.param(3, "which ran before", marks=pytest.mark.thorough)],
)
def test_driver_that_raises_ends_session(tmp_path, healthy, message):
    bench = Simulated(3, Driver(tmp_path / "broken", healthy))
    (tmp_path / "broken").touch()
    with pytest.raises(MachineError, match=f"(?s){message}.*unknown error.*autotune doctor"):
        session(tmp_path / "a", bench)
    assert not blamed(tmp_path / "a")
    (tmp_path / "broken").unlink()
    assert session(tmp_path / "a", bench).trials == 8
    assert session(tmp_path / "b", bench).trials == 8
    (repaired,), (fresh,) = outcomes(tmp_path / "a", bench), outcomes(tmp_path / "b", bench)
    assert [config for config, _ in repaired] == [config for config, _ in fresh]
    assert not any("failed" in outcome for _, outcome in repaired)


@pytest.mark.usefixtures("unproved")
def test_error_of_one_config_alone_is_result_of_it(tmp_path):
    bench = Simulated(2, Modeled(2), faults=Faults(error=0.3))
    summary = session(tmp_path, bench)
    assert 0 < summary.failed["error"] < 8


@dataclass(frozen=True)
class SlowStart(Simulated):
    """Its first call takes longer than a measurement may; `broken`: there is no GPU to open."""

    broken: bool = False

    def open(self, slot):
        if self.broken:
            raise RuntimeError("CUDA driver initialization failed")
        return SlowMeter(self, slot)


class SlowMeter(SimulatedMeter):
    def prepare(self, job):
        time.sleep(1.2)


@pytest.mark.usefixtures("unproved")
def test_first_call_of_worker_has_allowance_of_its_own(tmp_path):
    assert "hang" not in session(tmp_path / "slow", SlowStart(5), 2, measure_timeout_s=1).failed
    with pytest.raises(MachineError, match=r"were not ready: took longer than 0.1 s"):
        session(tmp_path / "hangs", SlowStart(5), prepare_timeout_s=0.1)


def test_gpu_that_cannot_be_opened_is_no_fault_of_config(tmp_path):
    with pytest.raises(MachineError, match=r"GPU 0 of bench simulated:5 is not ready.*initialization failed"):
        session(tmp_path, SlowStart(5, broken=True))
    assert not blamed(tmp_path)


def noop(argument):
    return argument


def print_and_die(argument):
    print("on standard output")
    os.write(2, f"LLVM ERROR: {argument}\n#0 0x00007f\n".encode())
    os.abort()


def fill_disk(argument):
    raise OSError(28, "No space left on device")


def test_process_that_cannot_start_is_no_fault_of_call():
    environment = {**os.environ, "PYTHONHOME": "/nowhere"}
    with pytest.raises(MachineError, match="before its first task"):
        Isolated(Start(environment, 4.0, forked=False)).call(noop, 1, 30)


def test_workers_print_nothing_and_crash_says_what_they_said(tmp_path, capfd):
    with Workers(Limits(processes=1), tmp_path) as workers:
        with pytest.raises(Lost, match=r"died \(SIGABRT\): LLVM ERROR: IO failure on output stream"):
            workers.submit(print_and_die, "IO failure on output stream").result()
        with pytest.raises(MachineError, match="No space left on device; free space"):
            workers.submit(fill_disk, None).result()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "`ptxas` failed with error code 255\n`ptxas` stderr:\nptxas info    : 0 bytes gmem\n"
            "ptxas fatal   : (C7602) Insufficient registers (24) to compile\n\nRepro command: ptxas a.ptx -o a.o",
            "(C7602) Insufficient registers (24) to compile",
        ),
        (
            "ptxas /tmp/a.ptx, line 8; error   : Unknown symbol 'x'\nptxas fatal   : Ptx assembly aborted",
            "Unknown symbol 'x'",
        ),
        (
            "at 3:4:\n    a = b\n        ^\nerror: <unknown>:0:0: local memory limit",
            "<unknown>:0:0: local memory limit",
        ),
        ("at 3:4:\n    a = b\n        ^\nno such operand", "no such operand"),
    ],
)
def test_reason_of_failure_is_what_compiler_said(text, said):
    assert reason(RuntimeError(text)) == f"RuntimeError: {said}"


@pytest.mark.thorough
@pytest.mark.usefixtures("unproved")
def test_unwritable_tables_are_found_first_and_others_are_tuned(tables, capsys):
    blocked = tables / "sm_90/h100/norm"
    blocked.parent.mkdir(parents=True)
    blocked.touch()
    both = ["tune", KERNEL, "quant/fp8_group_quant", "--device", DEVICE, "--trials", "1", "--jobs", "2"]
    assert main([*both, "--scenario", "1k1k", "--json"]) == 2
    said = capsys.readouterr().err
    assert f"error: {KERNEL} on h100: {blocked}/rms_norm_quant.json: cannot be written" in said
    assert said.index("cannot be written") < said.index("search")
    assert [path.name for path in tables.rglob("*.json")] == ["fp8_group_quant.json"]


def test_session_that_cannot_write_says_where_rows_are(tmp_path, monkeypatch):
    kernel, gpu = registry.load(KERNEL), device.named("mi355x")
    problem = build(kernel.problem, {"rows": 64, "cols": 1536}, "test")
    row = Row(key(problem), kernel.default(problem, gpu), "modeled", {}, "triton 3.9.0", "code")

    def block(session, searched, old, evaluator):
        (tmp_path / "t").touch()
        session.summary.rows = 1
        return old.merged([row])

    monkeypatch.setattr(Session, "_promote", block)
    plan = Plan(tmp_path / "t", tmp_path / "s", Budget(1), limits=Limits(processes=1))
    with pytest.raises(MachineError, match=r"with its 1 new rows is kept in .*unsaved") as raised:
        Session(kernel, gpu, plan, lambda status: None).run({problem: 1})
    path = table.path_of(tmp_path / "s/unsaved", gpu.arch, gpu.name, KERNEL)
    assert str(path) in str(raised.value)
    assert table.load(path).rows == (row,)
