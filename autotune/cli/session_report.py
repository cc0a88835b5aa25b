"""The page that `autotune tune --report` writes of its sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autotune import files
from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.cli.sessions import Asked
    from autotune.report.session_page import EndedSession
    from autotune.tuning.search.trials import Trials
    from autotune.tuning.session.progress import Summary


def write_report(path: Path, ended: Sequence[tuple[Asked, Summary]]) -> None:
    """Write the page of sessions that ended. Raises PackageError where the extra `report` is absent."""
    from autotune.report.html import html
    from autotune.report.session_page import session_page_data

    files.write(path, html(session_page_data([_ended(asked, summary) for asked, summary in ended])))


def _ended(asked: Asked, summary: Summary) -> EndedSession:
    from autotune.report.session_page import EndedSession

    return EndedSession(asked.kernel, asked.device, asked.problems, summary, _trials(asked))


def _trials(asked: Asked) -> list[Trials]:
    """Return the trials of the session's problems under its terms; none while another session writes the journal."""
    from autotune.toolchain import compilers_for
    from autotune.tuning.search import storage
    from autotune.tuning.search.trials import read

    plan, kernel, device = asked.plan, asked.kernel, asked.device
    judge = plan.judge(device, kernel.identity)
    terms = (kernel.identity.kernel, compilers_for(device.arch), plan.seed, judge)
    database = storage.database(plan.storage) if plan.storage else None
    try:
        studies = list(read(plan.state, plan.filed_under(device), kernel, database))
    except UsageError:
        return []
    named = [(each.study.source, each.study.toolchain, each.study.seed, each.study.bench) for each in studies]
    return [
        each for each, given in zip(studies, named, strict=True) if given == terms and each.problem in asked.problems
    ]
