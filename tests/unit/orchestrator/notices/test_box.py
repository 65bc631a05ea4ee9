"""Notices on disk: kept until delivered, known by their event, not sent a third time in doubt."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.notices.box import NoticeBox
from orchestrator.notices.notice import Notice

Make = Callable[..., Notice]


@pytest.fixture
def box(tmp_path: Path) -> NoticeBox:
    return NoticeBox(tmp_path / "local" / "notices")


def test_a_notice_waits_until_every_address_has_it(box: NoticeBox, make_notice: Make) -> None:
    assert box.put(make_notice(), ["A", "B"])
    one = box.waiting()[0]
    assert one.notice == make_notice() and one.left == ["A", "B"]
    assert box.begin(one, "A")
    box.delivered(one, "A")
    assert NoticeBox(box.folder).waiting()[0].left == ["B"]
    assert box.begin(one, "B")
    box.delivered(one, "B")
    assert NoticeBox(box.folder).waiting() == []


def test_an_event_is_told_once_however_often_it_is_put(box: NoticeBox, make_notice: Make) -> None:
    assert box.put(make_notice(), ["A"])
    assert not box.put(make_notice(at="2027-01-01T00:00:00+00:00", lines="told again"), ["A"])
    one = box.waiting()[0]
    box.begin(one, "A")
    box.delivered(one, "A")
    assert not NoticeBox(box.folder).put(make_notice(), ["A"])
    assert box.put(make_notice("run-2"), ["A"])


def test_the_same_event_of_another_study_of_that_name_is_another(make_notice: Make) -> None:
    assert make_notice(study_id="s2").id != make_notice().id == make_notice(happened="over").id


def test_notices_go_in_the_order_of_their_events(box: NoticeBox, make_notice: Make) -> None:
    for second in (30, 10, 20):
        box.put(make_notice(f"run-{second}", at=f"2026-01-01T00:00:{second}+00:00"), ["A"])
    assert [one.notice.at[17:19] for one in box.waiting()] == ["10", "20", "30"]


def test_attempts_that_ended_nobody_knows_how_are_made_twice_at_most(
    box: NoticeBox, make_notice: Make
) -> None:
    box.put(make_notice(), ["A", "B"])
    for _ in range(2):  # each time the process is killed during the attempt
        assert box.begin(NoticeBox(box.folder).waiting()[0], "A")
    one = NoticeBox(box.folder).waiting()[0]
    assert not box.begin(one, "A")
    assert NoticeBox(box.folder).waiting()[0].left == ["B"]


def test_attempts_that_failed_are_made_again_for_ever(box: NoticeBox, make_notice: Make) -> None:
    box.put(make_notice(), ["A"])
    for _ in range(5):
        one = NoticeBox(box.folder).waiting()[0]
        assert box.begin(one, "A")
        box.failed(one, "A")


def test_one_process_delivers_at_a_time(box: NoticeBox) -> None:
    with box.hold() as first, NoticeBox(box.folder).hold() as second:
        assert first and not second
    with box.hold() as again:
        assert again


def test_a_damaged_notice_is_moved_aside_and_the_others_go_on(
    box: NoticeBox, make_notice: Make, caplog: pytest.LogCaptureFixture
) -> None:
    box.put(make_notice(), ["A"])
    (box.folder / "waiting" / "0-torn.json").write_text('{"notice": {')
    assert [one.notice.id for one in box.waiting()] == [make_notice().id]
    assert "0-torn.json" in caplog.text
    caplog.clear()
    assert len(box.waiting()) == 1 and caplog.text == ""


def test_others_on_the_machine_cannot_read_notices(box: NoticeBox, make_notice: Make) -> None:
    box.put(make_notice(), ["A"])
    assert stat.S_IMODE(box.folder.stat().st_mode) == 0o700
