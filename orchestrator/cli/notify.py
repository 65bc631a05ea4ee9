"""``orchestrator notify test``: send a message to everybody who a study tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.options import AsJson, Overrides, StudyName

if TYPE_CHECKING:
    from orchestrator.study import Study


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Test who is notified of what happens to a study.", no_args_is_help=True)
    group.command("test")(test)
    app.add_typer(group, name="notify")


def test(study: StudyName, overrides: Overrides = None, as_json: AsJson = False) -> int:
    """Send a message to every address of a study, now, and say how that went.

    Exit code 0: all took it; 1: one did not; 2: the study has no notify, or an address cannot be one.
    """
    from orchestrator.cli.console import DONE, FAILED, err, out, print_json
    from orchestrator.ledger.documents import now
    from orchestrator.notices.addresses import check_addresses
    from orchestrator.notices.delivery import send
    from orchestrator.notices.notice import Notice
    from orchestrator.study import StudyError
    from orchestrator.terminal import Activity

    found = _study(study, overrides or [])
    if found.notify is None:
        raise StudyError("the study has no notify", where="notify", fix="add notify: {to: NOTIFY_URL} to it")
    addresses = check_addresses(found.notify)
    at = now()
    notice = Notice.of(
        "finished",
        study=found.name,
        study_id="",
        subject=f"test/{at}",
        happened="a test message",
        lines=f"Nothing has happened. Of this study you are told: {', '.join(found.notify.events)}.",
        at=at,
    )
    answers = {}
    with Activity(err(), "Sending a message") as activity:
        for name, address in addresses.items():
            activity.at(address)
            answers[name] = send(notice, name)
    if as_json:
        print_json(
            {
                "study": found.name,
                "id": notice.id,
                "addresses": [
                    {
                        "variable": n,
                        "address": addresses[n],
                        "delivered": a.delivered is True,
                        "error": a.error,
                    }
                    for n, a in answers.items()
                ],
            }
        )
    else:
        for name, answer in answers.items():
            said = "delivered" if answer.delivered else f"not delivered: {answer.error}"
            out().print(f"{name} ({addresses[name]}): {said}", markup=False, soft_wrap=True)
    return DONE if all(answer.delivered for answer in answers.values()) else FAILED


def _study(name: str, overrides: list[str]) -> Study:
    """The study of a file or a package; else the one stored under that name."""
    from pathlib import Path

    from orchestrator.face.stored import find_stored
    from orchestrator.study import load_study, packaged_studies

    if overrides or name in packaged_studies() or Path(name).suffix in (".yaml", ".yml"):
        return load_study(name, overrides)
    return find_stored(name, None).study
