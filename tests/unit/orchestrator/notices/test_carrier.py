"""Delivery with a made clock: a receiver that is away is asked ever more rarely and gets all once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.notices.box import NoticeBox
from orchestrator.notices.carrier import BACKOFF, Carrier, CarrierThread
from orchestrator.notices.delivery import Sent
from orchestrator.notices.notice import Notice

Make = Callable[..., Notice]


class World:
    """A clock, and receivers that answer until they are told to be away."""

    def __init__(self) -> None:
        self.now = 0.0
        self.away: set[str] = set()
        self.tries: list[tuple[float, str]] = []
        self.took: list[tuple[float, str, str]] = []

    def clock(self) -> float:
        return self.now

    def send(self, notice: Notice, variable: str) -> Sent:
        self.tries.append((self.now, variable))
        if variable in self.away:
            return Sent(False, "connection refused")
        self.took.append((self.now, variable, notice.id))
        return Sent(True)

    def run(self, carrier: Carrier, until: float) -> None:
        """Look whenever something is due, as the thread does, until then."""
        while (pause := carrier.look()) is not None and self.now + pause <= until:
            self.now += pause
        self.now = until


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def box(tmp_path: Path) -> NoticeBox:
    return NoticeBox(tmp_path / "notices")


def test_a_receiver_that_is_away_for_two_minutes_gets_the_message_once_when_it_is_back(
    world: World, box: NoticeBox, make_notice: Make
) -> None:
    carrier = Carrier(box, ["A"], world.send, world.clock)
    world.away.add("A")
    box.put(make_notice(), ["A"])
    world.run(carrier, 120.0)
    assert carrier.rest().errors == {"A": "connection refused"} and carrier.rest().waiting == 1
    asked = [at for at, _ in world.tries]
    pauses = [b - a for a, b in itertools.pairwise(asked)]
    assert pauses == list(BACKOFF[: len(pauses)]) and len(asked) == 7
    world.away.clear()
    world.run(carrier, 240.0)
    assert [(v, n) for _, v, n in world.took] == [("A", make_notice().id)]
    assert world.took[0][0] <= 120.0 + BACKOFF[-1]
    assert carrier.rest().waiting == 0 and carrier.look() is None


def test_an_address_that_is_away_holds_up_no_other(world: World, box: NoticeBox, make_notice: Make) -> None:
    carrier = Carrier(box, ["A", "B"], world.send, world.clock)
    world.away.add("A")
    for number in range(3):
        box.put(make_notice(f"run-{number}"), ["A", "B"])
    carrier.look()
    assert [variable for _, variable, _ in world.took] == ["B", "B", "B"]
    assert [variable for _, variable in world.tries].count("A") == 1, "one look asks it once"


def test_what_is_for_a_variable_that_is_not_set_here_stays(
    world: World, box: NoticeBox, make_notice: Make
) -> None:
    box.put(make_notice(), ["A", "B"])
    carrier = Carrier(box, ["B"], world.send, world.clock)
    assert carrier.look() is None
    rest = carrier.rest()
    assert (rest.delivered, rest.waiting) == (1, 1) and "A is not set" in rest.errors["A"]


def test_an_attempt_of_which_nobody_knows_the_end_is_made_once_more(
    world: World, box: NoticeBox, make_notice: Make
) -> None:
    tries: list[str] = []

    def send(notice: Notice, variable: str) -> Sent:
        tries.append(notice.id)
        return Sent(None, "no answer in 60 s")

    box.put(make_notice(), ["A"])
    world.run(Carrier(box, ["A"], send, world.clock), 1000.0)
    assert tries == 2 * [make_notice().id] and box.waiting() == []


def test_the_end_of_a_run_waits_for_what_is_under_way_and_tries_the_rest_at_once(
    world: World, box: NoticeBox, make_notice: Make
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def send(notice: Notice, variable: str) -> Sent:
        begun.set()
        may_end.wait(30)
        return world.send(notice, variable)

    thread = CarrierThread(Carrier(box, ["A"], send), box)
    box.put(make_notice(), ["A"])
    thread.wake()
    assert begun.wait(30)
    box.put(make_notice("run-2"), ["A"])
    may_end.set()
    assert thread.close(30.0).waiting == 0
    assert len({notice for _, _, notice in world.took}) == 2


def test_a_receiver_that_is_away_at_the_end_is_not_waited_for_longer_than_said(
    world: World, box: NoticeBox, make_notice: Make
) -> None:
    world.away.add("A")
    thread = CarrierThread(Carrier(box, ["A"], world.send), box)
    box.put(make_notice(), ["A"])
    rest = thread.close(30.0, hurry=lambda: len(world.tries) > 0)
    assert rest.waiting == 1 and rest.errors == {"A": "connection refused"}
