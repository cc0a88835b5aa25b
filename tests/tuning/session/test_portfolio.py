"""Few configs for many problems: by a portfolio, and by modeling what one problem compiled on all others."""

from dataclasses import replace

import pytest
from test_scheduler import KERNEL, RESOURCES, Pool

from autotune import device, registry
from autotune.config import Config, build
from autotune.state import Cache
from autotune.tuning.session.compiler import Compiler, Subject
from autotune.tuning.session.crash_log import CrashLog
from autotune.tuning.session.evaluator import Evaluator
from autotune.tuning.session.portfolio import portfolio
from autotune.tuning.session.promotion import Promotion
from autotune.tuning.session.prover import Proof
from autotune.tuning.session.selection import ByPortfolio, Searched
from autotune.tuning.session.shared_configs import BEST, shared_outcomes

NORM, GPU = registry.load(KERNEL), device.named("mi355x")
SMALL, MIDDLE, LARGE = (build(NORM.problem, {"rows": rows, "cols": 1536}, "test") for rows in (16, 64, 512))
A, B, C = (Config({"BLOCK": block}) for block in (16, 32, 64))


def test_one_config_within_share_of_all_is_enough():
    times = {SMALL: {A: 1.0, B: 1.009}, MIDDLE: {B: 1.0, C: 1.0}, LARGE: {B: 1.005, C: 1.0}}
    assert portfolio(times, 0.01) == {SMALL: B, MIDDLE: B, LARGE: B}
    assert portfolio(times, 0.001) == {SMALL: A, MIDDLE: C, LARGE: C}


def test_problem_takes_the_best_of_the_portfolio():
    times = {SMALL: {A: 1.0, B: 9.0}, MIDDLE: {A: 1.005, B: 1.0}, LARGE: {A: 9.0, B: 1.0}}
    assert portfolio(times, 0.01)[MIDDLE] == B


def test_tie_keeps_the_preferred_config():
    times = {SMALL: {A: 1.0, B: 1.0}, MIDDLE: {A: 1.0, B: 1.0}}
    assert set(portfolio(times, 0.01).values()) == {A}
    assert set(portfolio(times, 0.01, {B}).values()) == {B}


def test_problem_without_config_has_none():
    assert portfolio({SMALL: {}, LARGE: {A: 1.0}}, 0.01) == {LARGE: A}


def searched(problem, times):
    return Searched(problem, {config: {"us": us, "code": str(config)} for config, us in times.items()}, A, None, 1)


class Proofs:
    """A prover that finds B wrong on the largest problem."""

    def __init__(self):
        self.claims = []

    def prove(self, claims):
        self.claims += (asked := list(claims))
        wrong = (LARGE, B)
        return {claim: Proof(failed="wrong" if (claim.problem, claim.config) == wrong else None) for claim in asked}


def test_wrong_config_is_left_out_where_it_is_wrong():
    times = {A: 2.0, B: 1.0}
    prover = Proofs()
    promotion = Promotion(None, prover, _Modeled(), [searched(p, times) for p in (SMALL, LARGE)], portfolio=0.01)
    won = promotion._winners()
    assert {problem: won[problem][0].config for problem in won} == {SMALL: B, LARGE: A}
    assert len(prover.claims) == 3


class _Modeled:
    measurer = None


def test_choice_stays_within_share_of_each_best():
    some = [searched(SMALL, {A: 1.0, B: 1.02, C: 3.0}), searched(LARGE, {A: 1.5, B: 1.0})]
    chosen = ByPortfolio(0.03, some)({SMALL: set(), LARGE: set()})
    assert {won.config for won in chosen.values()} == {B}


def config(warps, block=512):
    return Config({"BLOCK": block, "ROWS": 1, "num_warps": warps, "num_stages": 1, "waves_per_eu": 0})


@pytest.fixture
def evaluator(tmp_path):
    """An evaluator without a bench, whose compiler must not be asked for anything."""

    def refuse(job):
        raise AssertionError(f"{job} was compiled")

    subject = Subject.of(NORM, GPU)
    compiler = Compiler(subject, Cache(tmp_path), Pool(1, refuse), CrashLog(tmp_path, GPU.name))
    return Evaluator(subject, compiler, None)


def outcome(us, **resources):
    return {"us": us, "resources": {**RESOURCES, "code": "code", **resources}}


def test_binary_of_one_problem_is_modeled_on_the_others(evaluator):
    tried = {SMALL: {config(2): outcome(1.0, registers=40)}, LARGE: {config(4): outcome(9.0)}}
    shared = shared_outcomes(tried, lambda problem, config: True, evaluator)
    assert list(shared[LARGE]) == [config(2)]
    assert shared[LARGE][config(2)]["resources"]["registers"] == 40
    assert shared[LARGE][config(2)]["us"] > shared_outcomes(tried, lambda *_: True, evaluator)[SMALL][config(4)]["us"]


def test_other_binary_is_not_shared(evaluator):
    power = replace(LARGE, ue8m0=True)
    tried = {SMALL: {config(2): outcome(1.0)}, power: {config(4): outcome(9.0)}}
    assert shared_outcomes(tried, lambda problem, config: True, evaluator) == {SMALL: {}, power: {}}


def test_only_the_best_and_only_what_is_allowed_is_shared(evaluator):
    blocks = (128, 256, 512, 1024, 2048, 4096)
    tried = {SMALL: {config(2, block): outcome(1.0 * block) for block in blocks}, LARGE: {}}
    shared = shared_outcomes(tried, lambda problem, config: config["BLOCK"] != 256, evaluator)
    assert [c["BLOCK"] for c in shared[LARGE]] == [128, 512, 1024]
    assert BEST == 4


def test_failure_of_one_problem_is_not_shared(evaluator):
    tried = {SMALL: {config(2): {"failed": "compile", "reason": "too large"}}, LARGE: {}}
    assert shared_outcomes(tried, lambda problem, config: True, evaluator)[LARGE] == {}


def test_devices_of_one_arch_share_binaries_and_proofs():
    gemm = registry.load("gemm/fp8_block_scaled")
    h100, h200, h20, mi300x = (Subject.of(gemm, device.named(name)) for name in ("h100", "h200", "h20", "mi300x"))
    problem = build(gemm.problem, {"m": 4096, "n": 2048, "k": 7168}, "test")
    default = gemm.default(problem, h100.device)
    persistent = Config({**default, "PERSISTENT": True})
    assert h100.binary_key("code") == h200.binary_key("code") != mi300x.binary_key("code")
    for config in (default, persistent):
        assert h100.proof_key("validate", problem, config) == h200.proof_key("validate", problem, config)
    # As many programs as compute units: 78 of H20 run another loop than 132.
    assert h100.proof_key("validate", problem, persistent) != h20.proof_key("validate", problem, persistent)
