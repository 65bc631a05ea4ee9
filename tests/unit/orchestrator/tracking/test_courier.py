"""What a server, or a proxy before it, does to the news: nothing is lost, held up or told by others."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking import Delivery, Operation, Tracker
from orchestrator.tracking.row import TrackedRow


@pytest.mark.usefixtures("impatient")
def test_a_dead_server_loses_nothing_and_holds_up_nothing(tracker: Tracker, server: Any, news: Any) -> None:
    server.down = True
    tracker.trial_started(0, news.POINT)
    server.attempts.acquire(timeout=10)
    tracker.event(0, news.cells())
    assert not tracker.flush(0.05)
    server.down = False
    assert tracker.flush(30)
    runs = [o["run"] for o in server.operations if o["op"] == "start"]
    assert set(runs) == {"trial/0", "trial/0/cell/k1", "trial/0/cell/k2"}


def test_closing_while_the_server_is_dead_says_how_to_go_on(
    server: Any, tmp_path: Path, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.down = True
    first = tracker_on(tmp_path)
    first.trial_started(0, news.POINT)
    told = first.close(0.2)
    assert told.note is not None and "orchestrator track demo" in told.note and "nobody listens" in told.note
    assert not told.delivered and not first.complete
    server.down = False
    assert tracker_on(tmp_path).close(10).note is None
    assert [o["run"] for o in server.operations] == ["trial/0"]


@pytest.mark.parametrize("told_before", [None, ""])
def test_the_end_waits_for_a_slow_server_as_long_as_it_takes_something(
    server: Any, tmp_path: Path, told_before: str | None, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    now = [0.0]
    calls = []

    def slow(operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        calls.append(len(operations))
        now[0] += 25.0
        return type(server).write(server, operations, late=late)

    server.write = slow
    story = [news.recorded(trial) for trial in range(40)] if told_before is None else []
    tracker = tracker_on(
        tmp_path, story=lambda runs: iter(story), told_up_to=told_before, clock=lambda: now[0]
    )
    for trial in range(40) if told_before is not None else ():
        tracker.trial_started(trial, news.POINT)
        tracker.event(trial, news.cells())
        tracker.event(trial, news.epoch(1, 0.5, 0.7))
    told = tracker.close(30.0)
    assert told.note is None and told.delivered
    assert len(calls) > 1 and now[0] > 30.0, "all of it took longer than one answer may"
    assert sum(operation["op"] == "start" for operation in server.operations) == 40 * 3


def test_the_end_waits_no_longer_when_the_user_is_in_a_hurry(
    server: Any, tmp_path: Path, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    released = threading.Event()

    def stuck(operations: Sequence[Operation], *, late: bool = False) -> Delivery:
        released.wait(60)
        return type(server).write(server, operations, late=late)

    server.write = stuck
    tracker = tracker_on(tmp_path)
    tracker.trial_started(0, news.POINT)
    told = tracker.close(3600.0, hurry=lambda: True)
    released.set()
    assert not told.delivered and "has not received all updates" in (told.note or "")


@pytest.mark.usefixtures("impatient")
def test_trouble_that_is_over_is_not_quoted_at_the_end(
    server: Any, tmp_path: Path, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.down = True
    tracker = tracker_on(tmp_path)
    tracker.trial_started(0, news.POINT)
    for _ in range(2):
        assert server.attempts.acquire(timeout=10)
    assert tracker.last_error is not None
    server.down = False
    assert tracker.flush(60) and tracker.last_error is None
    assert tracker.close(30.0).note is None


def test_what_is_refused_is_put_aside_counted_and_shown(
    tmp_path: Path, server: Any, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.refused = "trial/0"
    tracker = tracker_on(tmp_path, fence=3)
    tracker.trial_started(0, news.POINT)
    tracker.trial_started(1, news.POINT)
    told = tracker.close(10)
    assert {o["run"] for o in server.operations} == {"trial/1"}
    assert told.delivered and told.refused and told.note is not None and str(told.refused_file) in told.note
    assert told.refused == len(Path(str(told.refused_file)).read_text().splitlines())
    refused = json.loads(Path(str(told.refused_file)).read_text().splitlines()[0])
    assert refused["reason"] == "INVALID_PARAMETER_VALUE" and refused["operation"]["run"] == "trial/0"
    assert not tracker.complete and server.heard is None, "the next run tells it again"


def test_many_threads_tell_without_tearing(tracker: Tracker, server: Any, news: Any) -> None:
    def tell(trial: int) -> None:
        for _ in range(20):
            tracker.trial_started(trial, news.POINT)

    threads = [threading.Thread(target=tell, args=(trial,)) for trial in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.flush(10)
    assert len(server.operations) >= 160


@pytest.mark.usefixtures("impatient")
def test_what_only_a_proxy_refuses_is_tried_ten_times_alone_and_holds_up_nothing(
    tmp_path: Path, server: Any, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.odd = "trial/0"
    tracker = tracker_on(tmp_path)
    tracker.trial_started(0, news.POINT)
    while not server.attempts.acquire(timeout=10):
        pass
    tracker.trial_started(1, news.POINT)
    told = tracker.close(30)
    assert "trial/1" in {o["run"] for o in server.operations}
    assert told.refused == 1
    lines = Path(str(told.refused_file)).read_text().splitlines()
    assert all("<html>s3://bucket" in json.loads(line)["reason"] for line in lines), "without secrets"


@pytest.mark.usefixtures("impatient")
def test_a_proxy_that_comes_to_its_senses_loses_nothing(
    tmp_path: Path, server: Any, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.odd = "trial/0"
    tracker = tracker_on(tmp_path)
    tracker.trial_started(0, news.POINT)
    for _ in range(4):
        assert server.attempts.acquire(timeout=10)
    server.odd = ""
    told = tracker.close(30)
    assert (told.refused, told.note) == (0, None) and server.of("trial/0", "start")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_lost_the_study_is_told_all_of_it_again(
    tmp_path: Path, server: Any, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.heard = "2"
    story = [news.recorded(0), news.recorded(1)]
    tracker = tracker_on(tmp_path, fence=3, told_up_to="2", story=lambda runs: iter(story))
    tracker.trial_started(2, news.POINT)
    tracker.event(2, news.cells())
    assert tracker.flush(10) and not server.of("trial/0", "start"), "told already, by an earlier driver"
    server.forgets = True
    tracker.event(2, news.epoch(1, 0.1, 0.2))
    assert tracker.close(10).note is None
    for trial in (0, 1, 2):
        assert (
            server.of(f"trial/{trial}", "start") and server.metrics(f"trial/{trial}/cell/k1")["val_accuracy"]
        )
    assert server.heard == "3"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("heard", [None, "", "1"])
def test_a_server_that_does_not_remember_the_last_driver_is_told_again(
    tmp_path: Path, server: Any, heard: str | None, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.heard = heard
    tracker = tracker_on(tmp_path, fence=3, told_up_to="2", story=lambda runs: iter([news.recorded(0)]))
    assert tracker.close(10).note is None
    assert server.of("trial/0", "start") and server.heard == "3"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cut", ["truncated", "removed"])
def test_news_gone_from_the_disk_is_told_from_what_is_known(
    tmp_path: Path, server: Any, cut: str, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    server.down = True
    tracker = tracker_on(tmp_path, story=lambda runs: iter([news.recorded(0)]))
    tracker.trial_started(1, news.POINT)
    tracker.event(1, news.cells())
    (segment,) = (tmp_path / "0").glob("0*.jsonl")
    if cut == "removed":
        segment.unlink()
    else:
        os.truncate(segment, 10)
    server.down = False
    assert tracker.close(20).note is None
    assert {"trial/0", "trial/1", "trial/1/cell/k2"} <= {o["run"] for o in server.operations}


@pytest.mark.usefixtures("impatient")
def test_a_driver_stopped_between_check_and_write_sets_right_what_it_overwrote(
    tmp_path: Path, server: Any, news: Any, tracker_on: Callable[..., Tracker]
) -> None:
    current = threading.Event()
    current.set()
    ended = news.recorded(0)
    told_again: list[Any] = []

    def story(runs: Any) -> Iterator[TrackedRow]:
        told_again.append(runs)
        yield from [ended] if runs else []

    tracker = tracker_on(tmp_path, fence=1, story=story, told_up_to="", is_current=current.is_set)
    server.heard = ""
    server.meanwhile = current.clear  # stopped in the middle of the call; a second driver finished meanwhile
    tracker.trial_started(0, news.POINT)
    tracker.event(0, news.cells())
    told = tracker.close(10)
    assert told_again == [{"trial/0"}], "only what the call touched, as the records have it"
    assert server.of("trial/0/cell/k1", "end")[-1]["status"] == "FINISHED"
    assert told.note is not None and "Another driver" in told.note and not tracker.complete
    assert server.heard == ""
