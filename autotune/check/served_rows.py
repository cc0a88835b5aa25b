"""The configs that a check compares: every one that the runtime would serve, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry, row_check, table
from autotune.check.call import CheckedCall
from autotune.config import build, describe
from autotune.device import Device
from autotune.errors import TableError
from autotune.kernel import Kernel
from autotune.table import Row
from autotune.tuning import space


@dataclass(frozen=True)
class ServedConfig:
    """A row of a table, or the default config of a kernel that has no table there (`row` is None)."""

    call: CheckedCall
    row: Row | None = None
    source: str = ""
    """`Identity.kernel` of the kernel that the row was tuned for."""
    table: Path | None = None

    @property
    def kernel(self) -> Kernel[Any]:
        return self.call.kernel

    @property
    def device(self) -> Device:
        return self.call.device

    @property
    def name(self) -> str:
        return f"{self.kernel.name} {describe(self.call.problem)} on {self.device.name}"

    @cached_property
    def is_stale(self) -> bool:
        """True where the kernel has changed since the row was tuned."""
        return self.row is not None and self.source != self.kernel.identity.kernel

    @property
    def refusal(self) -> str | None:
        return self.kernel.reject(self.call.problem, self.call.config, self.device)

    @cached_property
    def with_default(self) -> CheckedCall:
        problem = self.call.problem
        return CheckedCall(self.kernel, problem, self.kernel.default(problem, self.device), self.device)


def of_tables(
    root: Path, kernels: Sequence[str], archs: Iterable[str], names: Iterable[str] = ()
) -> list[ServedConfig]:
    """Rows of the tables under `root` for these kernels, archs and device names. Raises TableError and UsageError."""
    found: list[ServedConfig] = []
    for path in sorted(root.glob("*/*/*/*.json")):
        arch, folder, family, stem = path.relative_to(root).parts
        kernel = f"{family}/{stem.removesuffix('.json')}"
        if kernel not in kernels or arch not in archs:
            continue
        device = devices.filed(folder)
        if not names or device.name in names:
            found += of_table(path, registry.load(kernel), device)
    return found


def of_table(path: Path, kernel: Kernel[Any], device: Device) -> list[ServedConfig]:
    """Rows of one table that may serve; `autotune lint` names the others. Raises TableError."""
    loaded = table.load(path)
    if (loaded.kernel, loaded.device) != (kernel.name, path.parts[-3]):
        raise TableError(f"{path}: is a table of {loaded.kernel} for {loaded.device}; move it to that folder")
    rows, _ = row_check.whole(loaded.rows, kernel, device)
    return [
        ServedConfig(
            CheckedCall(kernel, build(kernel.problem, dict(row.problem), str(path)), row.config, device),
            row,
            loaded.source,
            path,
        )
        for row in rows
    ]


def defaults(kernels: Sequence[str], archs: Iterable[str], present: Iterable[ServedConfig]) -> Iterator[ServedConfig]:
    """Yield default configs for kernels without a table, on the last check problem that their rules allow."""
    have = {(served.kernel.name, served.device.arch) for served in present}
    for arch in archs:
        device = devices.of_arch(arch)
        for kernel in map(registry.load, kernels):
            if (kernel.name, arch) not in have:
                yield from _of_defaults(kernel, device)[-1:]


def _of_defaults(kernel: Kernel[Any], device: Device) -> list[ServedConfig]:
    if not device.architecture.is_gpu:  # what `autotune compile` plans; the rules are of threads and registers
        problem = space.load(kernel, device).compile[0]
        return [ServedConfig(CheckedCall(kernel, problem, kernel.default(problem, device), device))]
    calls = [CheckedCall(kernel, p, kernel.default(p, device), device) for p in space.load(kernel, device).check]
    return [ServedConfig(call) for call in calls if kernel.reject(call.problem, call.config, device) is None]
