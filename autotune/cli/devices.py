"""`autotune devices`: the GPUs that records describe, and records of one's own."""

from __future__ import annotations

import argparse
import sys

from autotune import device as records
from autotune import own_devices
from autotune.cli.output import Commands, command, show_rows
from autotune.device_record import content
from autotune.errors import UsageError
from autotune.toolchain import MEASURE_FP4, refusal


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "devices",
        "known GPUs, with source and confidence; `add NAME` writes a record of one's own, `measure` its rates",
        "  autotune devices --json\n"
        "  autotune devices add my_gpu --from-this-gpu\n"
        "  autotune devices add h100_114 --like h100 --set compute_units=114 --set memory.peak_tb_s=2.0 "
        "--set memory.tb_s=1.8\n"
        "  autotune devices measure   # on the GPU that is here: DRAM, L2, launch and matrix rates, into its record",
        extra="",
    )
    parser.add_argument("words", nargs="*", metavar="add NAME | measure", help="write into the user's folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-this-gpu", action="store_true", help="of the GPU here, by what its driver tells")
    source.add_argument("--like", metavar="RECORD", help="of a GPU like that one, but for --set")
    parser.add_argument(
        "--set", action="append", metavar="FIELD=VALUE", default=[],
        help="a field as files of records name it: compute_units, memory.gb, tflops.bf16; repeatable",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.words == ["measure"]:
        return _measure(arguments)
    if arguments.words or arguments.like or arguments.from_this_gpu or arguments.set:
        return _add(arguments)
    rows = []
    for device in records.records():
        row = {"device": device.name, "arch": device.arch, "units": device.compute_units}
        row |= {"dense TFLOP/s": dict(device.tflops), "TB/s": device.dram_tb_s, "confidence": device.confidence}
        rows.append(row | ({"figures": dict(device.figures)} if arguments.json else {}))
    show_rows(rows, arguments.json)
    return 0


def _add(arguments: argparse.Namespace) -> int:
    match arguments.words:
        case ["add", name] if arguments.like or arguments.from_this_gpu:
            settings = dict(_setting(text) for text in arguments.set)
            device = (
                own_devices.like(records.named(arguments.like), settings)
                if arguments.like
                else own_devices.of_this_gpu(settings)
            )
            path = own_devices.write(name, device)
        case _:
            raise UsageError("devices add needs one NAME, and --from-this-gpu or --like RECORD")
    show_rows([{"device": name, "file": str(path), "confidence": records.named(name).confidence}], arguments.json)
    return 0


def _measure(arguments: argparse.Namespace) -> int:
    if arguments.like or arguments.from_this_gpu or arguments.set:
        raise UsageError("devices measure takes no --like, --from-this-gpu or --set: it changes the record of this GPU")
    device = records.current_recorded()
    import torch
    import triton

    from autotune.tuning.measurement import device_rates

    rates = list(device_rates.measure(device))
    if "fp4" not in device_rates.matrix_dtypes(device, triton.__version__) and "fp4" in dict(device.tflops):
        print(f"tflops.fp4 is left as it is: {refusal(MEASURE_FP4, triton.__version__)}", file=sys.stderr)
    where = f"torch {torch.__version__}, triton {triton.__version__}"
    after = own_devices.measured(device, rates, where)
    path = own_devices.replace_record(after)
    before, now = (_figures(record) for record in (device, after))
    show_rows(
        [
            {
                "figure": rate.field,
                "measured": rate.value,
                "record before": before[rate.field],
                "record now": now[rate.field],
                "by": rate.source,
            }
            for rate in rates
        ],
        arguments.json,
        f"{device.name}: {path}",
    )
    return 0


def _figures(device: records.Device) -> dict[str, float]:
    """The figures of a record by the names that `--set` takes."""
    data = content(device)
    nested = {f"{part}.{leaf}": value for part in ("tflops", "memory", "cache") for leaf, value in data[part].items()}
    return nested | {"launch_us": device.launch_us}


def _setting(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not equals or not value:
        raise UsageError(f"--set {text}: must be FIELD=VALUE, such as compute_units=114")
    return field, value
