"""Runs that end, break and are killed: a real receiver hears of each once, after a kill at most twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.driver import invocation, notifying
from orchestrator.driver.interrupt import Interrupt
from orchestrator.driver.invocation import Options, Outcome, run_invocation
from orchestrator.driver.notifying import look_after, notices_folder
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.notices.box import NoticeBox
from orchestrator.notices.delivery import Sent
from orchestrator.notices.notice import Notice
from orchestrator.study import StudyPlan, load_plan
from orchestrator.study.notify import Notify

NOTIFY = Notify(to=("NOTIFY_TEST",))
TODO = SimpleNamespace(anything=True, trials=2, done=0, best=None, scoring=[])


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take long to send; a run ends its wait as soon as nothing is left."""
    monkeypatch.setattr(notifying, "CLOSE_S", 300.0)


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    overrides = [f"storage={tmp_path / 'runs'}", f"tracking.uri=sqlite:///{tmp_path / 'm.db'}"]
    return load_plan("demo", [*overrides, "notify=NOTIFY_TEST"])


@pytest.fixture
def run(plan: StudyPlan, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """A run of the study whose work is what it is given."""

    def begin(work: Callable[[], Outcome], *, anything: bool = True, **options: Any) -> Outcome:
        store = StudyStore(plan.study.storage, "demo")

        def find(ledger: Ledger) -> Any:
            store.save_study(plan.study.to_plain())
            return SimpleNamespace(**{**vars(TODO), "anything": anything})

        monkeypatch.setattr(invocation, "_work", lambda *_: work())
        return run_invocation(
            plan, store, find, lambda *_: None, lambda event: None, Options(tracked=False, **options)
        )  # type: ignore[arg-type,return-value]

    return begin


def status(plan: StudyPlan) -> int:
    return execute(["status", "demo", "--storage", plan.study.storage])


def test_a_finished_run_is_told_once_and_a_rerun_that_finds_nothing_to_do_is_not(
    run: Callable[..., Outcome], receiver: Any, plan: StudyPlan
) -> None:
    outcome = run(Outcome, winner=lambda store, ledger: "Winner: trial 7")
    assert outcome.note is None
    run(Outcome, anything=False)
    assert status(plan) == 0
    assert receiver.titles == ["demo: finished"] and "Winner: trial 7" in receiver.took[0]["message"]


def test_a_run_that_could_not_go_on_is_told_with_what_to_do(
    run: Callable[..., Outcome], receiver: Any
) -> None:
    run(lambda: Outcome(state="failed", error="no slot is left", fix="look at slot 0"))
    assert receiver.titles == ["demo: the run could not go on"]
    assert (
        "no slot is left" in receiver.took[0]["message"] and "look at slot 0" in receiver.took[0]["message"]
    )


def test_a_run_that_broke_off_is_told_and_its_error_goes_on(
    run: Callable[..., Outcome], receiver: Any
) -> None:
    def broken() -> Outcome:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run(broken)
    assert receiver.titles == ["demo: the run broke off with an error"]


@pytest.mark.parametrize(("number", "told"), [(signal.SIGTERM, 1), (signal.SIGINT, 0)])
def test_the_end_by_a_signal_is_told_unless_somebody_pressed_ctrl_c(
    run: Callable[..., Outcome], plan: StudyPlan, number: signal.Signals, told: int
) -> None:
    interrupt = Interrupt()

    def interrupted() -> Outcome:
        interrupt.signal = number
        return Outcome(state="interrupted", exit_code=143)

    took: list[Notice] = []

    def send(notice: Notice, variable: str) -> Sent:
        took.append(notice)
        return Sent(True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            invocation,
            "open_notices",
            lambda *about: notifying_with(send, *about),
        )
        run(interrupted, interrupt=interrupt)
    assert [notice.kind for notice in took] == told * ["failed"]


def notifying_with(send: Callable[[Notice, str], Sent], *about: Any) -> Any:
    from orchestrator.driver.notifying import open_notices

    return open_notices(*about, send=send)


def test_a_receiver_that_is_away_fails_no_run_and_gets_the_message_from_the_next_who_looks(
    run: Callable[..., Outcome],
    plan: StudyPlan,
    make_receiver: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(notifying, "CLOSE_S", 0.1)
    with make_receiver() as first:
        port = first.port
    monkeypatch.setenv("NOTIFY_TEST", f"json://127.0.0.1:{port}/t0psecret")
    outcome = run(Outcome)
    assert outcome.state == "complete" and outcome.note is not None
    assert "1 notice has not been delivered" in outcome.note and "orchestrator status demo" in outcome.note
    assert "t0psecret" not in outcome.note
    assert status(plan) == 0
    assert "Notices that wait: 1" in capsys.readouterr().out
    with make_receiver(port) as back:
        assert status(plan) == 0 and status(plan) == 0
        assert back.titles == ["demo: finished"]
    assert "Notices delivered now: 1" in capsys.readouterr().out


KILLED = """
import os, signal, sys
from pathlib import Path
from orchestrator.driver import notifying
from orchestrator.driver.notifying import RunNotices
from orchestrator.ledger import Invocation, StudyStore
from orchestrator.notices import box
from orchestrator.notices.delivery import send
from orchestrator.notices.reporter import Ended
from orchestrator.study.notify import Notify

root, when = sys.argv[1:]
notifying.CLOSE_S = 300.0
store = StudyStore(root, "demo")
lease = store.driver_lease(invocation="killed")
lease.take()
store.take_over(lease, "killed", {})
store.save_study({"name": "demo", "notify": {"to": ["NOTIFY_TEST"]}, "storage": root})
store.save_invocation(Invocation(id="killed", fence=lease.fence, command="orchestrator sweep demo"))

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

notices = RunNotices(Notify(to=("NOTIFY_TEST",)), store, "killed", "orchestrator sweep demo",
                     send=die if when == "before" else send)
if when == "after":
    box.NoticeBox.delivered = die
if when != "stalled":
    notices.ended(Ended(state="failed", reason="no slot is left"))
    notices.close(lambda: False)
die()
"""


def killed(root: Path, when: str) -> None:
    """A driver that is killed: before an attempt to deliver, after it, or with nothing to deliver."""
    path = ":".join(filter(None, [str(Path(__file__).parents[4]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", KILLED, str(root), when]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(("when", "times"), [("before", 1), ("after", 2)])
def test_a_driver_killed_between_event_and_delivery_leaves_the_message_to_the_next_who_looks(
    when: str, times: int, tmp_path: Path, receiver: Any
) -> None:
    root = tmp_path / "runs"
    killed(root, when)
    for _ in range(3):
        assert execute(["status", "demo", "--storage", str(root)]) == 0
    told = Counter(zip(receiver.titles, receiver.ids, strict=True))
    assert [n for (title, _), n in told.items() if title == "demo: the run could not go on"] == [times]
    assert [n for (title, _), n in told.items() if title == "demo: its driver died, nothing runs"] == [1]
    assert len(told) == 2, "each under one id"


def test_a_driver_that_died_is_told_once_whoever_looks_and_however_often(
    tmp_path: Path, receiver: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    killed(root, "stalled")
    for _ in range(3):
        assert execute(["status", "demo", "--storage", str(root)]) == 0
    assert receiver.titles == ["demo: its driver died, nothing runs"]
    message = receiver.took[0]["message"]
    assert "Go on with: orchestrator sweep demo" in message and "Best so far: none complete yet" in message
    records = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert records and not any(b"t0psecret" in data or b"pa55word" in data for data in records)
    assert "t0psecret" not in "".join(capsys.readouterr())


def test_a_driver_on_another_host_counts_as_dead_once_it_stood_still_between_two_looks(
    tmp_path: Path,
) -> None:
    from orchestrator.ledger.holding import observe
    from orchestrator.notices.stalled import died

    root = tmp_path / "runs"
    killed(root, "stalled")
    store = StudyStore(str(root), "demo")
    seen = observe(store.storage, "studies/demo/driver")
    assert seen is not None and seen.holding is not None
    elsewhere = type(seen)(
        seen.fence,
        seen.data,
        type(seen.holding)(
            **{
                **vars(seen.holding),
                "owner": type(seen.holding.owner)(**{**vars(seen.holding.owner), "host": "far"}),
            }
        ),
    )
    last, folder, now = store.load_invocations()[-1], notices_folder(store.storage, "demo"), [1000.0]
    assert not died(elsewhere, last, folder, lambda: now[0]), "nothing is known yet"
    now[0] += 20.0
    assert not died(elsewhere, last, folder, lambda: now[0]), "it may be silent for that long"
    now[0] += 20.0
    assert died(elsewhere, last, folder, lambda: now[0])
    beaten = replace(elsewhere, data=seen.data + b" ")
    assert not died(beaten, last, folder, lambda: now[0]), "it beats"


def test_a_living_driver_delivers_by_itself(tmp_path: Path, make_notice: Callable[..., Notice]) -> None:
    store = StudyStore(str(tmp_path / "runs"), "demo")
    box = NoticeBox(notices_folder(store.storage, "demo"))
    box.put(make_notice(), ["NOTIFY_TEST"])
    with box.hold():
        rest = look_after(NOTIFY, store, again="", best="", send=lambda *_: pytest.fail("it was sent"))
    assert rest.elsewhere and rest.waiting == 1
