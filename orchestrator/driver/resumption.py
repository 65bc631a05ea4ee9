"""What a driver says of the run before it, which did not end as it should have."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ledger import Invocation

HOW = {"running": "was killed", "interrupted": "was interrupted", "failed": "could not go on"}
"""By the outcome that its record is left with."""


def last_run_in_words(invocations: Sequence[Invocation], predecessor: str, *, work_left: bool) -> str | None:
    """The line for the user; None if the last run ended well or left nothing.

    Args:
        invocations: on record, oldest first.
        predecessor: id of the last that took the study over; empty if there was none or it is not known.
        work_left: there is something to resume.
    """
    if predecessor and all(invocation.id != predecessor for invocation in invocations):
        return "The last run was killed before it had begun any work: nothing of it is missing"
    last = invocations[-1] if invocations else None
    if last is None or last.outcome not in HOW or not (work_left or last.outcome == "running"):
        return None
    then = "resuming what it left" if work_left else "it left nothing to do"
    return f"The last run, started {last.started_at[:19]} UTC, {HOW[last.outcome]}: {then}"
