"""Benches, and the processes that open them: every fault is survived and named."""

import json
import lzma
import pickle

import pytest

from autotune import device, registry
from autotune.config import Config, key
from autotune.errors import UsageError
from autotune.state import Cache
from autotune.tuning import space
from autotune.tuning.jobs import measure_job
from autotune.tuning.measurement.bench import Measurement, Timing
from autotune.tuning.measurement.replay import Replay
from autotune.tuning.measurement.simulated import Faults, Modeled, Simulated, Weather, parse
from autotune.tuning.workers.process import Isolated, Lost, Start
from autotune.tuning.workers.worker import Job, Limits, Workers

KERNEL = "quant/fp8_group_quant"


def jobs(count):
    kernel, gpu = registry.load(KERNEL), device.named("mi355x")
    loaded = space.load(kernel, gpu)
    problem = loaded.check[0]
    return [Job(KERNEL, key(problem), c, gpu.name) for c in space.feasible(loaded, kernel, problem, gpu)[:count]]


@pytest.mark.thorough
def test_measuring_process_survives_every_fault_and_names_it(state):
    faults = Faults(0.1, 0.2, 0.2, 0.2, 0.2)
    bench = Simulated(faults=faults)
    asked = [Measurement(bench, 0, (job,), 3) for job in jobs(24)]
    kinds = {"hang": "hang", "segfault": "crash", "sticky": "sticky", "wrong": "wrong", "out_of_memory": "memory"}
    seen = set()
    with Workers(Limits(processes=1, timeout_s=3.0), state) as workers:
        for one, future in [(one, workers.submit(measure_job, one)) for one in asked]:
            fault = bench.fault(one.jobs[0])
            seen.add(fault)
            try:
                answer = future.result()
                assert answer.get("kind") == kinds.get(fault), answer
                assert fault or len(answer["times"][0]) == 3
            except Lost as lost:
                assert lost.kind == kinds[fault]
    assert seen == {"", *kinds}


def test_answer_is_on_disk_before_it_is_given(state):
    asked = Measurement(Simulated(), 0, tuple(jobs(1)), 3, record=(state / "results", ("a", "b")))
    answer = measure_job(asked)
    assert answer.pop("gpu_s") > 0
    assert Cache(state / "results").get("a", "b") == json.loads(json.dumps(answer))


def test_simulated_device_repeats_and_differs_from_others():
    here = jobs(30)
    one, same, other = Modeled(1), Modeled(1), Modeled(2)
    assert [one.us(job) for job in here] == [same.us(job) for job in here]
    assert [one.us(job) for job in here] != [other.us(job) for job in here]
    faults = Faults(hang=0.5)
    assert [faults.of(1, job) for job in here] == [faults.of(1, job) for job in here]
    assert {faults.of(1, job) for job in here} == {"", "hang"}


def test_noise_drift_and_throttling_move_samples():
    (job,) = jobs(1)
    calm = Simulated(weather=Weather(noise=0.0))
    truth = calm.surface.us(job)
    assert calm.open(0).time([job], 4)[0] == Timing((truth,) * 4, 2100)
    noisy = Simulated(weather=Weather(noise=0.02)).open(0).time([job], 400)[0]
    assert noisy.us == pytest.approx(truth, rel=0.01)
    assert 0.008 < noisy.spread < 0.02
    hot = Simulated(weather=Weather(noise=0.0, throttle=1.0)).open(0).time([job], 2)[0]
    assert hot.throttled
    assert hot.us == pytest.approx(1.5 * truth)


def test_same_questions_meet_same_noise_in_any_process(state):
    """A session that is repeated on a simulated device walks the same path."""
    one = Measurement(Simulated(1), 0, tuple(jobs(1)), 3)
    answers = []
    for _ in range(2):
        with Workers(Limits(processes=1), state) as workers:
            answers.append(workers.submit(measure_job, one).result()["times"])
    assert answers[0] == answers[1]


def test_other_questions_slots_and_seeds_meet_other_noise():
    first, second = jobs(2)

    def asked(bench, slot=0):
        meter = bench.open(slot)
        return [meter.time(pair, 3) for pair in ((first,), (first, second), (first,))]

    once = asked(Simulated(1))
    assert once == asked(Simulated(1))
    assert once[0] != once[2]
    assert once != asked(Simulated(1), slot=1)
    assert once != asked(Simulated(2))


def test_recorded_space_answers_its_own_rows(tmp_path):
    path = tmp_path / "space.csv.xz"
    with lzma.open(path, "wt") as file:
        file.write("BLOCK,WARPS,time_ms,status\n16,4,0.25,ok\n32,4,,CompilationFailedConfig\n")
    surface = Replay(path)
    assert surface.us(Job("any", (), Config(BLOCK=16, WARPS=4), "mi355x")) == 250.0
    assert surface.us(Job("any", (), Config(BLOCK=32, WARPS=4), "mi355x")) is None
    with pytest.raises(UsageError, match="no row for"):
        surface.us(Job("any", (), Config(BLOCK=64, WARPS=4), "mi355x"))
    broken = tmp_path / "broken.csv"
    broken.write_text("nonsense")
    for name, reason in (("broken.csv", "not a recorded space"), ("absent.csv", "cannot be read")):
        with pytest.raises(UsageError, match=reason):
            Replay(tmp_path / name).us(Job("any", (), Config(BLOCK=64), "mi355x"))


def test_simulated_bench_is_never_filed_under_real_device():
    bench = parse("simulated:7")
    assert bench.tier == "simulated"
    assert bench.table_device("mi355x") not in device.names()
    for text in ("simulated", "simulated:x", "gpu:1"):
        with pytest.raises(UsageError, match="simulated:SEED"):
            parse(text)


def test_lost_call_travels_between_machines():
    lost = pickle.loads(pickle.dumps(Lost("hang", "took longer than 5 s")))
    assert (lost.kind, str(lost)) == ("hang", "took longer than 5 s")


def test_task_of_main_module_is_refused():
    """Workers do not import it: each would die, and be begun again."""

    def task(argument):
        return argument

    task.__module__ = "__main__"
    with pytest.raises(ValueError, match="main module"):
        Isolated(Start({}, 1.0)).call(task, None, 1.0)
