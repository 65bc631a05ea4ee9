"""Where trials are judged before their end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.study.rungs import epoch_rungs, first_after_warmup, seed_stages
from orchestrator.study.scheduler import Scheduler, judged_epochs


@pytest.mark.parametrize(
    ("epochs", "factor", "warmup", "rungs"),
    [
        (5, 2, 1, (3, 5)),
        (5, 3, 1, (5,)),
        (10, 3, 1, (4, 10)),
        (50, 3, 1, (6, 17, 50)),
        (50, 3, 0, (2, 6, 17, 50)),
        (50, 2, 5, (7, 13, 25, 50)),
        (1, 3, 0, (1,)),
        (2, 2, 1, (2,)),
    ],
)
def test_rungs_are_equal_shares_of_the_epochs_after_the_warmup(
    epochs: int, factor: int, warmup: int, rungs: tuple[int, ...]
) -> None:
    assert epoch_rungs(epochs, factor, warmup=warmup) == rungs


@given(st.integers(1, 300), st.integers(2, 5), st.integers(0, 9))
def test_rungs_rise_to_the_last_epoch_and_spare_the_beginning(epochs: int, factor: int, warmup: int) -> None:
    rungs = epoch_rungs(epochs, factor, warmup=warmup)
    shares = {-(-epochs // factor**i) for i in range(12)}
    assert list(rungs) == sorted(set(rungs)) and rungs[-1] == epochs
    assert set(rungs) == {share for share in shares if share >= warmup + 2} | {epochs}


@pytest.mark.parametrize(
    ("seeds", "factor", "first", "stages"),
    [
        (3, 3, 1, (1, 3)),
        (3, 2, 1, (1, 2, 3)),
        (10, 3, 1, (1, 2, 4, 10)),
        (10, 3, 3, (4, 10)),
        (2, 3, 1, (1, 2)),
    ],
)
def test_stages_grow_by_the_factor(seeds: int, factor: int, first: int, stages: tuple[int, ...]) -> None:
    assert seed_stages(seeds, factor, first=first) == stages


def test_epochs_that_are_judged_are_the_rungs_before_the_last() -> None:
    def judged(scheduler: Scheduler, epochs: int, **more: int) -> tuple[int, ...] | None:
        return judged_epochs(scheduler, epochs=epochs, reduction_factor=3, warmup=1, **more)

    assert judged(Scheduler(name="asha"), 50) == judged(Scheduler(name="seeds"), 50) == (6, 17)
    assert judged(Scheduler(name="asha"), 50, version=1) == (30,), "as studies of earlier versions go on"
    assert judged(Scheduler(name="asha", grace_period=2), 50) == (2, 6, 17)
    assert judged(Scheduler(name="asha"), 5) == (3,), "one at least"
    assert judged(Scheduler(name="asha"), 3) == judged(Scheduler(name="seeds"), 5) == ()
    assert judged(Scheduler(name="median"), 6) == (3, 4, 5)
    assert judged(Scheduler(name="median"), 6, version=1) == (4, 5)
    assert judged(Scheduler(name="none"), 6) == ()
    assert judged(Scheduler(name="ray.tune.schedulers:FIFOScheduler"), 6) is None
    assert [first_after_warmup(epochs, 1) for epochs in (1, 2, 3, 50)] == [1, 2, 3, 3]
