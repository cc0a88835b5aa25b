"""The plan of a session: all that its caller chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from autotune.config import Config
from autotune.device import Device
from autotune.identity import Identity
from autotune.tuning.cost_model.model import model_name
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session import executors
from autotune.tuning.workers.worker import Limits


@dataclass(frozen=True)
class Plan:
    """How much to try, with what, and where things lie."""

    tables: Path
    state: Path
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    sampler: str = "surrogate"
    """A name of SAMPLERS."""
    limits: Limits = field(default_factory=Limits)
    bench: Bench | None = None
    """None: the session ends at the model."""
    start: executors.Start = executors.local
    storage: str | None = None
    """URL of a database for trials; None: a journal file under `state`."""
    retry_crashed: bool = False
    exhaustive: bool = False
    """Every feasible config is tried, however many trials the budget allows."""
    configs: tuple[Config, ...] | None = None
    """Nothing else is tried but the default and the incumbent."""
    deterministic: bool = False
    """All problems that rows may serve for one another are tuned in one order of reduction."""
    portfolio: float | None = None
    """Rows of few configs, each problem at most so much slower than its best, as a fraction; modeled sessions only."""
    again: bool = False
    """Problems are searched though the table has the result of the same search."""

    def filed_under(self, device: Device) -> str:
        """Name under which tables and trials on `device` are filed: a rehearsal's is one of its own."""
        return self.bench.table_device(device.name) if self.bench else device.name

    def judge(self, device: Device, identity: Identity) -> str:
        """Name of what gives the times: the bench, or the cost model with the kernel's formula of work."""
        return self.bench.name if self.bench else f"{model_name(device)}-{identity.work}"
