"""Signals: the first asks, the second ends; libraries' handlers are taken over and given back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from orchestrator.driver.interrupt import Interrupt


@pytest.fixture(autouse=True)
def in_a_terminal() -> Iterator[None]:
    """SIGHUP as in a terminal, however the tests were started."""
    former = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, former)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals, code: int) -> None:
    quits: list[int] = []
    with Interrupt(quit=quits.append) as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.requested.wait(5) and not quits
        assert interrupt.exit_code == code
        os.kill(os.getpid(), number)
        assert quits == [code]


def test_a_process_that_does_not_get_done_ends_at_the_deadline() -> None:
    ended = threading.Event()
    order: list[str] = []

    def record() -> None:
        order.append("recorded")
        raise OSError("the storage is away")

    def quit(code: int) -> None:
        order.append("ended")
        ended.set()

    with Interrupt(deadline=0.01, quit=quit) as interrupt:
        interrupt.before_quitting = record
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended.wait(5) and order == ["recorded", "ended"]


def test_handlers_are_given_back() -> None:
    former = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupt.install()
        assert signal.getsignal(signal.SIGTERM) == interrupt._on_signal
    assert signal.getsignal(signal.SIGTERM) == former


def test_outside_the_main_thread_it_can_only_be_requested() -> None:
    found: list[bool] = []

    def use() -> None:
        with Interrupt() as interrupt:
            interrupt.request()
            found.append(interrupt.requested.is_set() and interrupt.exit_code is None)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [True]


def test_a_closed_terminal_is_nothing_to_a_process_that_was_told_to_outlive_it() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert not interrupt.requested.is_set()
    finally:
        signal.signal(signal.SIGHUP, former)
