"""Tables in an engine of your own: load, compare across ranks, serve, and write down what no row covers.

python examples/engine/engine.py

The engine is a stub: it asks for the config of each GEMM of a step, as a launch would, and launches nothing. On a GPU
replace `config_of` by a call of the kernel.
"""

import tempfile
from pathlib import Path

from autotune import device, misses, registry, runtime, table
from autotune.config import Config

KERNEL = registry.load("gemm/fp8_block_scaled")


class Engine:
    """One rank of an engine on `gpu`."""

    def __init__(self, gpu: device.Device, tables: Path) -> None:
        self.gpu = gpu
        self.tables_hash = table.content_hash(table.load(table.path_of(tables, gpu.arch, gpu.name, KERNEL.name)))

    def config_of(self, tokens: int, n: int, k: int) -> Config:
        """Return the config of one GEMM: a dictionary lookup after the first call of a shape."""
        problem = KERNEL.problem(tokens, n, k, self.gpu.fp8, ue8m0=True)  # scales as DeepSeek's checkpoints have them
        return runtime.choose(KERNEL, problem, self.gpu).config


def main() -> None:
    gpu, tables = device.named("mi355x"), runtime.tables_root()
    ranks = [Engine(gpu, tables) for _ in range(2)]
    if len({rank.tables_hash for rank in ranks}) > 1:
        raise SystemExit("the ranks have different tables")
    with tempfile.TemporaryDirectory() as folder:
        missed = Path(folder) / "misses.jsonl"
        stop = misses.record(missed)
        for tokens in (1, 64, 100, 8192):
            print(f"tokens={tokens:5}: {ranks[0].config_of(tokens, 7168, 384)}")
        stop()
        print(f"{len(missed.read_text().splitlines())} shapes without a row of their own: tune them with --from-misses")


if __name__ == "__main__":
    main()
