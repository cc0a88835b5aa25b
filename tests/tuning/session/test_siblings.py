"""A session on one device begins with what was measured on another of the same vendor."""

import pytest
from test_bench_session import KERNEL, problems

from autotune import device, registry
from autotune.tuning.measurement.simulated import Modeled, Simulated
from autotune.tuning.search.stopping import Budget
from autotune.tuning.search.study import Search
from autotune.tuning.session.history import measured_by_siblings
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Limits


@pytest.mark.thorough
def test_trials_of_sibling_device_are_learned_from(tmp_path):
    kernel, bench = registry.load(KERNEL), Simulated(1, Modeled(1))
    plan = Plan(tmp_path / "tables", tmp_path / "state", Budget(trials=6), limits=Limits(processes=1), bench=bench)
    tuned, untouched = problems()
    Session(kernel, device.named("mi355x"), plan, lambda status: None).run({tuned: 1})

    def lessons(name, bench):
        found = measured_by_siblings(plan.state, kernel, device.named(name), bench)
        assert untouched not in found
        return found.get(tuned, [])

    (lesson,) = lessons("mi350x", bench)
    assert len(lesson) == 6
    assert all("us" in outcome for outcome in lesson.values())
    assert lessons("mi355x", bench) == [], "its own trials are its own"
    assert lessons("h100", bench) == [], "another vendor's"
    assert lessons("mi350x", Simulated(2, Modeled(2))) == [], "measured by another bench"
    assert lessons("mi350x", None) == [], "a model's figures"


@pytest.mark.thorough
def test_trials_of_database_warm_start_another_machine(tmp_path):
    kernel, bench, url = registry.load(KERNEL), Simulated(1, Modeled(1)), f"sqlite:///{tmp_path}/trials.db"
    tuned, _ = problems()

    def session(name, machine):
        limits = Limits(processes=1)
        plan = Plan(tmp_path / "tables", tmp_path / machine, Budget(trials=6), limits=limits, bench=bench, storage=url)
        return Session(kernel, device.named(name), plan, lambda status: None)

    session("mi355x", "one").run({tuned: 1})
    transferred = []

    class Watched(Search):
        def transfer(self, *sources):
            transferred.extend(sources)
            super().transfer(*sources)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autotune.tuning.session.session.Search", Watched)
        session("mi350x", "other").run({tuned: 1})
    assert [len(outcomes) for outcomes in transferred] == [6]
