"""Sessions on a Ray cluster of two nodes with their trials in PostgreSQL, both started here."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import optuna
import pytest

from autotune import device, registry, table
from autotune.config import build
from autotune.errors import UsageError
from autotune.tuning.measurement.simulated import Faults, Modeled, Simulated, Weather
from autotune.tuning.search import storage
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session import executors, ray_executor
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Limits

KERNEL, DEVICE, TRIALS = "quant/fp8_group_quant", "mi355x", 24
SIZES = [64, 256, 1024]


def tune(folder, progress=lambda status: None, **more):
    kernel = registry.load(KERNEL)
    # Without noise both crews see the same times, so that the tables may be compared to the byte.
    bench = Simulated(5, Modeled(5), Weather(noise=0.0), Faults(0.0, 0.1, 0.1, 0.1, 0.05), slots=2, seconds=0.1)
    plan = Plan(
        folder / "tables", folder / "state", Budget(trials=TRIALS), limits=Limits(processes=2), bench=bench, **more
    )
    problems = {build(kernel.problem, {"rows": rows, "cols": 1536}, "test"): 1 for rows in SIZES}
    return Session(kernel, device.named(DEVICE), plan, progress).run(problems)


@pytest.fixture
def postgresql(tmp_path):
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found or not shutil.which("runuser"):
        pytest.skip("PostgreSQL is not installed: apt-get install -y postgresql")
    pytest.importorskip("psycopg", reason="pip install psycopg[binary]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # PostgreSQL refuses to run as root, and its user may not enter pytest's folders.
    data = Path(f"/tmp/autotune-postgresql-{os.getpid()}")
    become = ["runuser", "-u", "postgres", "--"] if getpass.getuser() == "root" else []

    def run(*command):
        subprocess.run([*become, *command], check=True, capture_output=True, cwd="/")

    bin_ = found[-1].parent
    run(str(bin_ / "initdb"), "-D", str(data), "-A", "trust", "-U", "tuner")
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(str(bin_ / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(data / "log"), "-w", "start")
    yield f"postgresql://tuner@127.0.0.1:{port}/postgres"
    run(str(bin_ / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
    shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def cluster():
    pytest.importorskip("ray", reason="pip install ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "resources": {"gfx950": 1}, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args=node)
    second = made.add_node(**node)
    made.wait_for_nodes()
    yield made, second
    made.shutdown()


def finished(url):
    kept = storage.database(url)
    names = [study.study_name for study in optuna.get_all_study_summaries(kept)]
    return [
        (name, tuple(sorted(trial.params.items())))
        for name in names
        for trial in optuna.load_study(study_name=name, storage=kept).get_trials(deepcopy=False)
        if trial.state == optuna.trial.TrialState.COMPLETE and "outcome" in trial.user_attrs
    ]


@pytest.mark.slow
def test_cluster_that_loses_node_gives_table_of_one_process(postgresql, cluster, tmp_path):
    made, second = cluster
    killed = []

    def kill_half_way(status):
        if status.stage == "search" and status.done >= TRIALS * len(SIZES) // 2 and not killed:
            killed.append(status.done)
            made.remove_node(second, allow_graceful=False)

    many = tune(tmp_path / "many", kill_half_way, start=ray_executor.start(made.address, "gfx950"), storage=postgresql)
    one = tune(tmp_path / "one")
    assert killed
    assert many.trials == one.trials == TRIALS * len(SIZES)
    trials = finished(postgresql)
    assert len(trials) == len(set(trials)) == TRIALS * len(SIZES)
    assert many.failed == one.failed
    tables = [table.load(summary.table) for summary in (many, one)]
    assert table.content_hash(tables[0]) == table.content_hash(tables[1])


@pytest.mark.slow
def test_one_session_at_time_on_all_machines_of_database(postgresql):
    here, elsewhere = storage.database(postgresql), storage.database(postgresql)
    with storage.alone(here, "a kernel on mi355x"):
        with (
            pytest.raises(UsageError, match="perhaps on another machine"),
            storage.alone(elsewhere, "a kernel on mi355x"),
        ):
            pass
        with storage.alone(elsewhere, "a kernel on h100"):
            pass
    with storage.alone(elsewhere, "a kernel on mi355x"):
        pass


@pytest.mark.slow
def test_session_that_is_killed_leaves_no_lock_in_database(postgresql):
    holding = (
        "import os, sys; from autotune.tuning.search import storage\n"
        "with storage.alone(storage.database(sys.argv[1]), 'a kernel'):\n"
        "    os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", holding, postgresql])
    assert killed.returncode == -9
    for _ in range(50):  # the server notices the end of the connection in its own time
        with suppress(UsageError), storage.alone(storage.database(postgresql), "a kernel"):
            return
        time.sleep(0.1)
    pytest.fail("the lock outlived its session")


def test_storage_that_is_not_there_is_usage_error():
    with pytest.raises(UsageError, match="not a database URL"):
        storage.database("nonsense")
    pytest.importorskip("psycopg", reason="pip install psycopg[binary]")
    with pytest.raises(UsageError, match=r"postgresql://tuner:\*\*\*@127.0.0.1:1/x.*start the server"):
        storage.database("postgresql://tuner:secret@127.0.0.1:1/x")


def test_cluster_that_is_not_there_is_usage_error(tmp_path):
    pytest.importorskip("ray", reason="pip install ray")
    with (
        pytest.raises(UsageError, match="ray start --head"),
        ray_executor.start("auto", "gfx950")(Limits(), tmp_path, None),
    ):
        pass


def test_one_session_at_time_tunes_kernel_for_device(tmp_path):
    lock = tmp_path / "kernel.session"
    with storage.exclusive(lock), pytest.raises(UsageError, match=f"process {os.getpid()}"), storage.exclusive(lock):
        pass
    with storage.exclusive(lock):
        pass


def test_journal_is_mended_after_kill(tmp_path):
    path = tmp_path / "journal.log"
    optuna.create_study(storage=storage.journal(path), study_name="a")
    with path.open("a") as file:
        file.write('{"op_code": 0, "study')
    Path(f"{path}.lock").symlink_to(path)
    optuna.create_study(storage=storage.journal(path), study_name="b")
    names = {study.study_name for study in optuna.get_all_study_summaries(storage.journal(path))}
    assert names == {"a", "b"}


def test_local_crew_has_lane_for_each_gpu(tmp_path):
    with executors.local(Limits(processes=1), tmp_path, Simulated(slots=3)) as started:
        assert len(started.lanes) == 3


@pytest.mark.slow
def test_database_takes_every_name_of_study(postgresql):
    """The longest names are those of captured loads of 384 experts."""
    shared = storage.database(postgresql)
    names = [storage.database_name(f"m=64,routing=captured:{'00' * 384}{end}") for end in ("", "1")]
    for name in names:
        optuna.create_study(storage=shared, study_name=name)
    assert sorted(study.study_name for study in optuna.get_all_study_summaries(shared)) == sorted(names)
