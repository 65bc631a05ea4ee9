"""What ``plan`` says of stopping, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.plan import _stopping, _stops
from orchestrator.study import load_plan


@pytest.mark.parametrize(
    ("scheduler", "factor", "said"),
    [
        ("seeds", 2, "seeds: trained in stages of 1, 2 and 3 of 3 seeds; compared after epoch 3"),
        ("seeds", 3, "seeds: trained in stages of 1 and 3 of 3 seeds"),
        ("asha", 2, "asha: compared after epoch 3"),
        ("asha", 3, "asha: compared after epoch 3"),
        ("median", 3, "median"),
        ("none", 3, None),
    ],
)
def test_plan_says_where_trials_may_be_stopped(
    scheduler: str, factor: int, said: str | None, tmp_path: Path
) -> None:
    options = [f"search.scheduler={scheduler}", f"search.reduction_factor={factor}"]
    found = _stopping(load_plan("demo", [f"storage={tmp_path}", *options]))
    if said is None:
        assert found is None
    else:
        assert found is not None and _stops(found, ["1", "2", "3"]).startswith(said)


def test_plan_says_that_a_short_schedule_has_no_rung(tmp_path: Path) -> None:
    short = load_plan("demo", [f"storage={tmp_path}", "recipe.epochs=3"])
    found = _stopping(short)
    assert found is not None and "so nothing is stopped" in _stops(found, ["1", "2", "3"])
