"""`autotune compare-model`: the cost model's times against those measured here."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune.cli.output import Commands, command, print_json, show_rows
from autotune.cli.storage_option import add_storage, database
from autotune.state import state_root

if TYPE_CHECKING:
    from autotune.tuning.cost_model.agreement import Agreement, Ratio


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "compare-model",
        "the cost model against times measured here: by device, dtype and family, rank correlation, regret of its "
        "first configs, measured / modeled time, and which term bounds what it gets wrong",
        "  autotune compare-model\n  autotune compare-model --device h200 --json\n"
        "  autotune compare-model --bench simulated:7   # a rehearsal's trials, which are of no device",
    )
    parser.add_argument("--device", help="default: every device of which something was measured")
    parser.add_argument("--bench", metavar="BENCH", help="simulated:SEED: the trials of that rehearsal (default: gpu)")
    add_storage(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from autotune.tuning.cost_model.agreement import agreement
    from autotune.tuning.measurement import simulated
    from autotune.tuning.session.history import by_family, measured, rehearsed

    names = [devices.named(arguments.device).name] if arguments.device else devices.names()
    bench = None if arguments.bench in (None, "gpu") else simulated.parse(arguments.bench)
    state, held = state_root(), database(arguments)
    times = measured(state, names, held) if bench is None else rehearsed(state, bench, names, held)
    tier = "measured" if bench is None else bench.tier
    judged = {name: agreement(problems) for name, problems in sorted(by_family(times).items())}
    if arguments.json:
        more = {} if bench is None else {"bench": bench.name}
        print_json(
            [{"family": name, "tier": tier, **more, **_plain(judged_kernel)} for name, judged_kernel in judged.items()]
        )
    elif judged:
        what = "measured here" if bench is None else f"simulated, of the bench {bench.name} and of no device"
        _tell(judged, what)
    else:
        print(f"nothing {tier} under {state} nor in the tables; run autotune tune where a GPU is")
    return 0 if judged else 1


def _tell(judged: dict[str, Agreement], what: str) -> None:
    rows = [_row(name, judged_kernel) for name, judged_kernel in judged.items()]
    show_rows(rows, as_json=False, title=f"the model against times {what}")
    terms = [_term(name, *term) for name, judged_kernel in judged.items() for term in judged_kernel.by_bound]
    show_rows(terms, as_json=False, title="by the term that bounds a config as modeled")
    print("rank: Spearman's correlation over the configs of a problem, mean over problems")
    print("regret: the best of the model's first configs over the best of all, mean over problems")
    print("factor: median of time over modeled time; 80 % of the times lie within the spread of it")


def _row(name: str, judged_kernel: Agreement) -> dict[str, Any]:
    from autotune.tuning.cost_model.agreement import FIRST

    first = "/".join(map(str, FIRST))
    return {
        "device, dtype, family": name,
        "problems": judged_kernel.problems,
        "times": judged_kernel.ratio.times,
        "rank": "" if judged_kernel.rank is None else f"{judged_kernel.rank:.2f}",
        f"regret of first {first} %": "/".join(f"{100 * share:.1f}" for share in judged_kernel.regret or ()),
        **_ratio(judged_kernel.ratio),
    }


def _term(name: str, bound: str, ratio: Ratio) -> dict[str, Any]:
    return {"device, dtype, family": name, "bound": bound, "times": ratio.times, **_ratio(ratio)}


def _ratio(ratio: Ratio) -> dict[str, str]:
    return {"factor": f"{ratio.factor:.2f}", "spread": f"x{ratio.spread:.2f}"}


def _plain(judged_kernel: Agreement) -> dict[str, Any]:
    from autotune.tuning.cost_model.agreement import FIRST

    regret = dict(zip(map(str, FIRST), judged_kernel.regret, strict=True)) if judged_kernel.regret else None
    terms = {name: asdict(ratio) for name, ratio in judged_kernel.by_bound}
    return {
        "problems": judged_kernel.problems,
        "ranked": judged_kernel.ranked,
        "rank": judged_kernel.rank,
        "regret": regret,
        **asdict(judged_kernel.ratio),
        "by_bound": terms,
    }
