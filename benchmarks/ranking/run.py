"""How often does a ranking call equal configurations different, and does it find a worse one?

    uv run python benchmarks/ranking/run.py

Made-up studies go through the functions that `orchestrator results` uses, from the records' values on: trials
are ranked, the best is selected, the others are marked. Writes results.json beside this file and prints the
tables of the README.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from orchestrator.ledger import TrialRecord
from orchestrator.statistics.ranking import MeasuredRow, ranked_rows, significance
from orchestrator.statistics.significance import COCHRAN_LEVEL
from orchestrator.statistics.summary import paired_difference
from orchestrator.work.provenance import provenance

STUDIES = 4000
SEED = 20
DEVIATION = 0.01
"""Residual standard deviation of a steady configuration; its size changes nothing."""


@dataclass(frozen=True)
class Scenario:
    """One kind of study.

    Attributes:
        name: as the tables have it.
        rows: configurations, k.
        seeds, splits: whose product is the number of blocks.
        behind: by how many residual standard deviations the last configuration is worse.
        unsteady: how many of the first configurations have ``factor`` times the residual standard deviation.
        shared: share of the residual variance that the splits of one seed and configuration have in common.
        images: accuracies are counts over so many images; None leaves them continuous.
    """

    name: str
    rows: int
    seeds: int = 3
    splits: int = 1
    behind: float = 0.0
    unsteady: int = 0
    factor: float = 1.0
    shared: float = 0.0
    images: int | None = None


@dataclass
class Counts:
    """Studies in which …

    Attributes:
        marked: any configuration is called significantly worse than rank 1.
        worse: the configuration that is worse is.
        paired: any is by the paired t-test against rank 1, which ignores how rank 1 was found.
        apart: any is listed apart.
        best_apart: rank 1 is, so that nothing is marked.
    """

    studies: int = 0
    marked: int = 0
    worse: int = 0
    paired: int = 0
    apart: int = 0
    best_apart: int = 0
    seconds: float = field(default=0.0, repr=False)


REQUIRED = [
    *(Scenario(f"{k} equal", k) for k in (5, 20, 50)),
    *(Scenario(f"{k}, one 5 s worse", k, behind=5) for k in (5, 20, 50)),
]
FURTHER = [
    Scenario("2 equal", 2),
    Scenario("3 equal", 3),
    Scenario("20 equal, 2 seeds", 20, seeds=2),
    Scenario("20 equal, 10 seeds", 20, seeds=10),
    Scenario("20 equal, accuracies counted over 260 images", 20, images=260),
    Scenario("20 equal, 3 seeds × 2 splits", 20, splits=2),
    Scenario("20 equal, 3 seeds × 2 splits, errors of one seed correlated by 0.6", 20, splits=2, shared=0.6),
    Scenario("20 equal means, one of 3 times the spread", 20, unsteady=1, factor=3),
    Scenario("20 equal means, one of 10 times the spread", 20, unsteady=1, factor=10),
    Scenario("20 equal means, eight of 10 times the spread", 20, unsteady=8, factor=10),
    Scenario("5, one 3 s worse", 5, behind=3),
    Scenario("20, one 3 s worse", 20, behind=3),
    Scenario("50, one 3 s worse", 50, behind=3),
]


def study(scenario: Scenario, rng: random.Random) -> tuple[list[TrialRecord], dict[str, dict[str, Any]]]:
    """Complete trials and the records of their cells."""
    blocks = [(f"{p}-shot", str(s)) for p in range(scenario.splits) for s in range(scenario.seeds)]
    level = {block: rng.gauss(0, 0.03) for block in blocks}
    trials, records = [], {}
    for number in range(scenario.rows):
        deviation = DEVIATION * (scenario.factor if number < scenario.unsteady else 1)
        behind = DEVIATION * scenario.behind if number == scenario.rows - 1 else 0.0
        common = {str(s): rng.gauss(0, 1) for s in range(scenario.seeds)} if scenario.shared else {}
        cells = []
        for split, seed in blocks:
            error = rng.gauss(0, 1)
            if scenario.shared:
                error = math.sqrt(1 - scenario.shared) * error + math.sqrt(scenario.shared) * common[seed]
            accuracy = 0.5 + level[split, seed] - behind + deviation * error
            if scenario.images:
                accuracy = round(accuracy * scenario.images) / scenario.images
            key = f"{number}-{split}-{seed}"
            cells.append({"key": key, "split": split, "seed": seed})
            records[key] = {"metrics": {"accuracy": accuracy}}
        trials.append(TrialRecord(number=number, state="complete", cells=cells, created_at=""))
    return trials, records


def simulate(scenario: Scenario, studies: int, seed: int) -> Counts:
    """Counts over ``studies`` studies of one kind; the same for the same arguments."""
    rng = random.Random(f"{seed} {scenario}")
    counts = Counts(studies=studies)
    started = time.monotonic()
    for _ in range(studies):
        trials, records = study(scenario, rng)
        rows = ranked_rows(trials, records, {})
        found = significance(rows)
        counts.marked += any(found.worse.values())
        counts.worse += bool(scenario.behind and found.worse.get(scenario.rows - 1))
        counts.apart += bool(found.apart)
        counts.best_apart += found.reason == "best apart"
        counts.paired += any(differs(row, rows[0]) for row in rows[1:])
    counts.seconds = time.monotonic() - started
    return counts


def differs(row: MeasuredRow, best: MeasuredRow) -> bool:
    """Whether the paired t-interval of the two over the seeds leaves out zero."""
    difference = paired_difference(row.seeds, best.seeds)
    return difference is not None and difference.high is not None and difference.high < 0


def interval(count: int, studies: int) -> tuple[float, float]:
    """Clopper-Pearson at 95 %."""
    found = binomtest(count, studies).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def tables(results: dict[str, Any]) -> str:
    """The Markdown tables of the README."""
    head = (
        "configurations",
        "any marked worse",
        "95 % interval",
        "paired t-test",
        "any apart",
        "rank 1 apart",
    )
    lines = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|--:|--:|"]
    power = ["| configurations | the worse one marked | 95 % interval |", "|---|--:|--:|"]
    for row in results["scenarios"]:
        n = row["studies"]
        target, name = ("worse", power) if row["scenario"]["behind"] else ("marked", lines)
        low, high = row["interval"]
        cells = [row["scenario"]["name"], _percent(row[target] / n), f"{100 * low:.1f} to {_percent(high)}"]
        if target == "marked":
            cells += [_percent(row[c] / n) for c in ("paired", "apart", "best_apart")]
        name.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *power])


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def runs(studies: int, seed: int) -> Iterator[dict[str, Any]]:
    for scenario in [*REQUIRED, *FURTHER]:
        counts = simulate(scenario, studies, seed)
        target = counts.worse if scenario.behind else counts.marked
        print(f"{scenario.name}: {_percent(target / studies)} ({counts.seconds:.0f} s)", flush=True)
        yield {
            "scenario": asdict(scenario),
            **{name: value for name, value in asdict(counts).items() if name != "seconds"},
            "interval": interval(target, studies),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    started = time.monotonic()
    results = {
        "studies": args.studies,
        "seed": args.seed,
        "cochran_level": COCHRAN_LEVEL,
        "scenarios": list(runs(args.studies, args.seed)),
        "seconds": round(time.monotonic() - started),
        "provenance": provenance(),
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{tables(results)}")


if __name__ == "__main__":
    main()
