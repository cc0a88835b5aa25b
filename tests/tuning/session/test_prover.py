"""The proof stage of a session."""

import dataclasses

from autotune import device, registry
from autotune.state import Cache
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.prover import Claim, Prover
from autotune.tuning.session.stopwatch import Stopwatch

GPU = device.named("mi355x")
KERNEL = registry.load("norm/rms_norm")


class IdleWorkers:
    def run(self, job, wanted):
        assert not wanted
        return {}


def test_config_that_no_problem_allows_is_counted_and_said(tmp_path):
    refusing = dataclasses.replace(Subject.of(KERNEL, GPU), kernel=dataclasses.replace(KERNEL, reject=lambda *_: "no"))
    prover = Prover(refusing, Cache(tmp_path), (), IdleWorkers(), lambda *_: None, Stopwatch())
    problem = KERNEL.problem(64, 512)
    claim = Claim(problem, KERNEL.default(problem, GPU))
    assert "no check problem" in prover.prove([claim])[claim].failed
    assert prover.counts() == (0, 1)
    ((stage, words),) = prover.reasons()
    assert stage == "validate" and "no check problem" in words
