"""The self-tests: what they find out, what they refuse, and that their bounds can fail."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mmap_model.errors import ConfigurationError
from orchestrator.cli.main import execute
from orchestrator.statistics.ranking import ranked_rows, significance
from orchestrator.statistics.selftest.checks import Setting, mean_interval, proportion
from orchestrator.statistics.selftest.made import DEVIATION, make_study
from orchestrator.statistics.selftest.noise import Normal, get_noise
from orchestrator.statistics.selftest.registry import get_suite, names

CUSTOM = """
class {name}:
    def residuals(self, rng, configurations, blocks):
        {body}
"""


def own(folder: Path, body: str, name: str = "Noise") -> str:
    file = folder / f"{name.lower()}.py"
    file.write_text(CUSTOM.format(name=name, body=body))
    return f"{file}:{name}"


def test_made_studies_have_the_truth_that_their_values_vary_about() -> None:
    made = make_study([0.0, 2.0, -1.0], noise=Normal(), rng=random.Random(1), seeds=400)
    rows = {row.trial.number: row for row in ranked_rows(made.trials, made.records, {})}
    for number, truth in enumerate(made.truths):
        mean = sum(rows[number].seeds.values()) / 400
        assert mean == pytest.approx(truth, abs=4 * DEVIATION / 20)
    found = significance(list(rows.values()))
    assert found.criterion is not None and found.criterion.s == pytest.approx(DEVIATION, rel=0.1)


def test_the_same_seed_makes_the_same_studies_and_counts() -> None:
    setting = Setting(repeats=30, seed=5)
    once = [check.to_dict() for check in get_suite("power").run(setting)]
    assert once == [check.to_dict() for check in get_suite("power").run(setting)]
    assert once != [check.to_dict() for check in get_suite("power").run(Setting(repeats=30, seed=6))]


def test_marks_hold_their_level_and_find_what_is_worse(capfd: pytest.CaptureFixture[str]) -> None:
    code = execute(["selftest", "marks", "--repeats", "150", "--seed", "1", "--json"])
    found = {check["name"]: check for check in json.loads(capfd.readouterr().out)["checks"]}
    assert found["5 equal"]["low"] <= 0.05 and found["20, one 5 σ worse"]["reached"] >= 0.8
    assert found["50 equal, one of them the best"]["high"] >= 0.95
    assert (code == 0) == all(check["holds"] for check in found.values())


def test_the_estimate_of_the_winner_is_less_optimistic_than_its_mean() -> None:
    checks = list(get_suite("winner").run(Setting(repeats=25, seed=2)))
    by_spread: dict[str, dict[str, float]] = {}
    for check in checks:
        by_spread.setdefault(check.name, {})[check.measure] = check.reached
    assert len(by_spread) == 4
    for found in by_spread.values():
        raw, shrunk = found["mean of the first less its truth"], found["estimate of the first less its truth"]
        assert abs(shrunk) < raw and found["its interval holds the truth"] >= 0.8


def test_noise_that_the_statistics_do_not_assume_breaks_a_bound(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = "return [[rng.gauss(0, 1 + 4 * (c == 0)) for _ in range(blocks)] for c in range(configurations)]"
    name = own(tmp_path, body)
    assert execute(["selftest", "marks", "--repeats", "60", "--noise", name]) == 1
    shown = capfd.readouterr()
    assert "FAILS" in shown.out and "noise of" in shown.out and "may fail by chance" in shown.err


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return [[0.0] * blocks] * configurations", "all residuals are 0"),
        ("return [[1.0] * blocks]", "it gave others"),
        ("return [[float('nan')] * blocks] * configurations", "not finite"),
        ("return None", "TypeError"),
    ],
)
def test_a_noise_that_is_none_is_refused_before_anything_is_tried(
    tmp_path: Path, body: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        get_noise(own(tmp_path, body))
    assert caught.value.where == "--noise" and caught.value.fix


def test_wrong_names_are_input_errors(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert execute(["selftest", "mark"]) == 2 and "marks" in capfd.readouterr().err
    assert execute(["selftest", "marks", "--noise", own(tmp_path, "pass") + "y"]) == 2
    assert execute(["selftest", "marks", "--noise", "normal"]) == 2
    assert "--noise" in capfd.readouterr().err and {"marks", "winner", "power"} <= set(names())


def test_intervals_are_clopper_pearsons_and_the_normal() -> None:
    assert proportion(5, 100) == pytest.approx((0.0164, 0.1128), abs=1e-4)
    assert proportion(0, 10)[0] == 0 and proportion(10, 10)[1] == 1
    mean, low, high = mean_interval([1.0, 2.0, 3.0, 2.0])
    assert (mean, high - mean) == (2.0, pytest.approx(mean - low))
