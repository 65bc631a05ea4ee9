"""Running a study from Python, as ``orchestrator sweep`` does from a shell."""

from __future__ import annotations

import _thread
import sys
from collections.abc import Iterable

from rich.console import Console

from orchestrator.face.opened import OpenStudy
from orchestrator.face.stored import find_stored
from orchestrator.printable.console import SafeConsole
from orchestrator.study import load as studies
from orchestrator.study.model import Study


class StudyFailed(RuntimeError):
    """A study could not go on; what is finished is kept.

    Attributes:
        fix: what can be done about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem} / Fix: {fix}")
        self.fix = fix


def load_study(name_or_path: str, *overrides: str) -> Study:
    """The packaged study of that name, or the study in that file, with ``key=value`` overrides.

    Raises:
        InputError: no such study, or anything in it that is not valid; names file, line, key and fix.
    """
    return studies.load_study(name_or_path, overrides)


def run(
    study: Study | str, *overrides: str, retry_failed: bool = False, console: Console | None = None
) -> OpenStudy:
    """Run a study to its end, from wherever its records stand, and open it. Prints its progress.

    In a notebook the progress is plain lines below the cell. Interrupting the kernel (or Ctrl-C) ends the run
    in order; the same call continues it.

    Args:
        study: from `load_study`; or a packaged study's name or a study file.
        overrides: ``key=value``, only with a name or file.
        retry_failed: train cells again that failed before.
        console: where progress is printed; by default the terminal's error output, in a notebook its output.

    Raises:
        InputError: of the study, its data or weights, or what is written to; before anything starts.
        StudyFailed: it could not go on.
        KeyboardInterrupt: it was interrupted; everything finished is kept.
    """
    from orchestrator.driver import Options, run_study
    from orchestrator.driver.interrupt import Interrupt
    from orchestrator.face.page_file import write_page
    from orchestrator.ledger import check_writable
    from orchestrator.notices.addresses import check_addresses
    from orchestrator.study import plan_study
    from orchestrator.terminal import open_display
    from orchestrator.tracking.backends import check_tracking

    plan = plan_study(_study(study, overrides))
    check_writable(plan.study.storage)
    check_tracking(plan.study.tracking.resolved_uri, plan.study.tracking.backend)
    check_addresses(plan.study.notify)
    _ = plan.fingerprint  # weights that cannot be had are told of now, not by every worker
    command, interrupt = f"orchestrator.run({plan.study.name!r})", Interrupt(quit=_give_up)
    options = Options(command=command, interrupt=interrupt, report=write_page)
    with open_display(console or _console()) as display:
        outcome = run_study(plan, display.apply, retry_failed=retry_failed, options=options)
    if outcome.state == "failed":
        raise StudyFailed(outcome.error or "it could not go on", outcome.fix)
    if outcome.state == "interrupted":
        raise KeyboardInterrupt("everything finished is kept; the same call continues")
    return OpenStudy(find_stored(plan.study.name, plan.study.storage), outcome)


def _study(study: Study | str, overrides: Iterable[str]) -> Study:
    if isinstance(study, str):
        return studies.load_study(study, overrides)
    if given := tuple(overrides):
        raise TypeError(f"{given[0]!r}: overrides belong to load_study where a study is given")
    return study


def _console() -> Console:
    """A terminal's error output. In a notebook plain lines: it has no cursor to redraw with."""
    if "ipykernel" in sys.modules:
        return SafeConsole(
            file=sys.stdout, force_jupyter=False, force_terminal=False, highlight=False, width=120
        )
    return SafeConsole(stderr=True, highlight=False)


def _give_up(code: int) -> None:
    """An end that takes too long ends the call, not the process: a notebook keeps what else it holds."""
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)
    _thread.interrupt_main()
