"""Rules of all attention kernels: tiles of queries and keys, and splits over keys."""

from __future__ import annotations

import triton

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.kernels.attention._problem import Attention
from autotune.kernels.attention._softmax import WIDTH, last_joins


def attention_reject(rows: int, config: Config, device: Device) -> str | None:
    """Rules of BLOCK_H query rows and BLOCK_N keys, 512 wide; `rows` is what there is to fill BLOCK_H with."""
    block_h, block_n = config.size("BLOCK_H"), config.size("BLOCK_N")
    threads = config.size("num_warps") * device.warp_size
    if block_h > 16 and block_h >= 2 * rows:
        return f"BLOCK_H={block_h} is at least twice the {rows} query rows"
    if block_h * WIDTH > 128 * threads:
        return f"{block_h * WIDTH // threads} fp32 accumulators a thread do not fit beside scores and keys"
    if block_h * block_n < threads // 2:
        return f"{threads} threads for {block_h * block_n} scores leave threads idle"
    tiles = 2 * WIDTH * (block_n * config.size("num_stages") + block_h)
    if tiles > device.shared_bytes_per_block:
        return f"{tiles} B of queries and staged keys exceed {device.shared_bytes_per_block} B of shared memory"
    return None


def split_for(programs: int, blocks: int, device: Device) -> int:
    """Splits of `blocks` of keys, a power of two up to 32: two blocks each or more, two programs a compute unit."""
    split = 1
    while split < 32 and programs * split * 2 <= 2 * device.compute_units and blocks >= 4 * split:
        split *= 2
    return split


def split_reject(blocks: int, config: Config) -> str | None:
    """Reason why SPLIT_KV splits do not suit `blocks` of keys, or None."""
    split = config.size("SPLIT_KV")
    return f"SPLIT_KV={split} leaves splits of {blocks} blocks empty" if split > blocks else None


def split_work(
    problem: Attention,
    keys: int,
    config: Config,
    device: Device,
    *,
    rows: int,
    flops: int,
    key_bytes: int,
    query_bytes: int,
    unique_bytes: int,
) -> Work:
    """Work of splits over `keys` a token: `flops` a pair of query and key, `rows` of BLOCK_H queries read."""
    block_h, block_n, split = config.size("BLOCK_H"), config.size("BLOCK_N"), config.size("SPLIT_KV")
    out_bytes = 2 if split == 1 else 4
    return Work(
        programs=problem.tokens * triton.cdiv(problem.heads, block_h) * split,
        flops_per_program=flops * block_h * keys / split,
        bytes_per_program=key_bytes * keys / split + rows * (query_bytes + out_bytes * WIDTH),
        unique_bytes=unique_bytes,
        iterations=max(1, triton.cdiv(keys, block_n * split)),
        dtype="bf16",
        launches=1 if split == 1 or last_joins(split, device) else 2,
        reduction_bytes=8 * problem.tokens * problem.heads * WIDTH * split if split > 1 else 0,
    )
