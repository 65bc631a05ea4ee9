"""Is the search worth its cost? Every sampler with everything that stops trials, against random search.

    uv run python benchmarks/search_quality/run.py                      # all arms, 200 repeats → results.json
    uv run python benchmarks/search_quality/run.py --arms tpe/seeds random/seeds --jobs 2
    uv run python benchmarks/search_quality/run.py --render             # the tables of README.md

Each repeat draws three of the table's seeds for the search to observe; what it chooses is measured on the
others. An arm that is in results.json of the same table is kept, so an interrupted run continues.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from exact import cost_to_reach, random_curve, regrets
from simulate import Costs, search
from table import ABOUT, EPOCHS, TABLE, Table, read

from mmap_model.errors import InputError
from orchestrator.work.provenance import provenance

HERE = Path(__file__).parent
RESULTS, README, FUSION = HERE / "results.json", HERE / "README.md", HERE / "fusion.json"
SAMPLERS = ("random", "tpe", "gp", "qmc", "nsga2", "nsga3", "cmaes")
STOPPING = {
    "none": ("search.scheduler=none",),
    "asha": ("search.scheduler=asha", "search.reduction_factor=2"),
    "asha, version 1": (
        "search.scheduler=asha",
        "search.reduction_factor=2",
        "search.scheduler_version=1",
    ),
    "median": ("search.scheduler=median",),
    "seeds": ("search.scheduler=seeds",),
    "seeds, factor 2": ("search.scheduler=seeds", "search.reduction_factor=2"),
}
ALL = [f"{sampler}/{stopping}" for stopping in STOPPING for sampler in SAMPLERS]
EXACT = ("random, exact", "random, one seed, exact")
OWN = "random/none"
"""Random search as the software does it: a length first, then what fits it: points are not equally likely."""
COMPARED = [
    f"{sampler}/{stopping}" for stopping in ("none", "seeds", "seeds, factor 2") for sampler in SAMPLERS[:2]
]
"""Arms that are measured on the part of the grid too, beside those that can only search there."""
WHOLE, PART = "whole", "independent"
"""The grid, and its largest part in which no parameter's values depend on another's."""
OBSERVED, TRIALS, AT = 3, 40, 20
"""Seeds of a search; trials of a search at most; trials of random search that the others are measured by."""
BEGIN, END = "<!-- results -->", "<!-- /results -->"


def costs() -> Costs:
    """Seconds of one core, as measured by ``fusion.py``."""
    measured = json.loads(FUSION.read_text())["seconds_per_cell"]
    by_width = {int(width): found for width, found in measured.items()}
    return Costs(
        seconds={width: found["epoch"] for width, found in by_width.items()},
        probe={width: found["probe"] for width, found in by_width.items()},
    )


def arm(table: Table, sampler: str, stopping: str, repeats: int, trials: int) -> dict[str, Any]:
    """Mean costs and regret after every trial, and how the regrets of repeats spread at the end."""
    plan = table.plan("search.preset=false", f"search.sampler={sampler}", *STOPPING[stopping])
    began, sums = time.process_time(), [[0.0, 0.0, 0.0] for _ in range(trials)]
    ends = []
    for repeat in range(repeats):
        drawn = random.Random(repeat).sample(range(table.seeds), OBSERVED)
        lost = regrets(table, drawn, EPOCHS)
        steps = list(search(table, plan, drawn, trials, repeat, costs()))
        for index in range(trials):
            step = steps[min(index, len(steps) - 1)]
            for i, value in enumerate((step.cell_epochs, step.device_seconds, lost[step.best])):
                sums[index][i] += value / repeats
        ends.append(lost[steps[-1].best])
    mean = sum(ends) / len(ends)
    spread = (sum((e - mean) ** 2 for e in ends) / max(1, len(ends) - 1) / len(ends)) ** 0.5
    return {
        "repeats": repeats,
        "curve": [[round(a, 2), round(b, 2), round(c, 6)] for a, b, c in sums],
        "standard_error_at_end": round(spread, 6),
        "processor_seconds": round(time.process_time() - began, 1),
    }


def exact_arms(table: Table, trials: int) -> dict[str, Any]:
    """Random search with all three seeds, and with one."""
    known = costs()
    arms = {}
    for name, used in zip(EXACT, (OBSERVED, 1), strict=True):
        probes = used * known.probe_epochs, used * known.probe[used]
        curve = [
            [
                round(cells * EPOCHS + probes[0], 2),
                round(cells * EPOCHS * known.seconds[used] + probes[1], 2),
                round(regret, 6),
            ]
            for cells, regret in random_curve(table, OBSERVED, used, trials)
        ]
        arms[name] = {"repeats": None, "curve": curve}
    return arms


def arm_or_refusal(name: str, independent: bool, repeats: int, trials: int) -> dict[str, Any]:
    """The arm of this name, in a process of its own; why the study is refused, where it is."""
    sampler, _, stopping = name.partition("/")
    try:
        return arm(read(independent=independent), sampler, stopping, repeats, trials)
    except InputError as refused:
        return {"refused": str(refused)}


class Results:
    """What is measured so far, in ``results.json``: arms of the whole grid, and of its independent part.

    Args:
        repeats: of a search.
    """

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self._grids = {name: read(independent=name == PART) for name in (WHOLE, PART)}
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self._found = {name: self._begin(name, before.get(name, {})) for name in self._grids}

    def _begin(self, name: str, before: dict[str, Any]) -> dict[str, Any]:
        table = self._grids[name]
        of = identity(table, min(TRIALS, len(table.values)))
        kept = before["arms"] if before.get("of") == of else {}
        return {"of": of, "arms": kept | exact_arms(table, of["trials"])}

    def measure(self, grid: str, arms: list[str], jobs: int) -> None:
        """Measure what is missing of these arms; each is written as it ends."""
        of, known = self._found[grid]["of"], self._found[grid]["arms"]
        missing = [name for name in arms if known.get(name, {}).get("repeats", 0) < self._repeats]
        with ProcessPoolExecutor(jobs) as processes:
            waiting = {
                processes.submit(arm_or_refusal, name, grid == PART, self._repeats, of["trials"]): name
                for name in missing
            }
            for done in as_completed(waiting):
                name, found = waiting[done], done.result()
                self._found[grid]["arms"][name] = found
                print(grid, name, found.get("refused") or found["curve"][-1], flush=True)
                self.save()

    def refused(self, grid: str) -> list[str]:
        """Arms that cannot search this grid."""
        return [name for name, found in self._found[grid]["arms"].items() if "refused" in found]

    def save(self) -> None:
        """Write everything, arms in the order in which they are listed."""
        place = {name: index for index, name in enumerate([*EXACT, *ALL])}
        for found in self._found.values():
            ordered = sorted(found["arms"].items(), key=lambda item: place.get(item[0], len(place)))
            found["arms"] = dict(ordered)
        RESULTS.write_text(json.dumps({**self._found, "provenance": provenance()}, indent=1) + "\n")


def identity(table: Table, trials: int) -> dict[str, Any]:
    """What the arms of one results file have in common."""
    whole = json.loads(ABOUT.read_text())
    measured = [path.read_bytes() for path in (TABLE, FUSION)]
    return {
        "table": hashlib.sha256(b"".join(measured)).hexdigest()[:16],
        "points": len(table.values),
        "trained_points": whole["points"],
        "of": whole["of"],
        "distinct_cells": len({key for cells in table.cells.values() for key in cells}),
        "seeds": table.seeds,
        "observed": OBSERVED,
        "trials": trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--arms", nargs="*", help="sampler/stopping; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="arms at a time")
    parser.add_argument("--render", action="store_true", help="only write the tables of README.md")
    options = parser.parse_args()
    if options.render:
        render()
        return
    results, wanted = Results(options.repeats), list(dict.fromkeys([OWN, *(options.arms or ALL)]))
    results.measure(WHOLE, wanted, options.jobs)
    refused = results.refused(WHOLE)
    if refused:
        results.measure(PART, [name for name in wanted if name in {*COMPARED, *refused}], options.jobs)
    results.save()
    render()


def render() -> None:
    """The tables of the README, from results.json alone."""
    result = json.loads(RESULTS.read_text())
    parts = [table_of(result[name]) for name in (WHOLE, PART) if len(result[name]["arms"]) > len(EXACT)]
    page = README.read_text()
    head, tail = page[: page.index(BEGIN)], page[page.index(END) :]
    README.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{tail}")


def table_of(found: dict[str, Any]) -> str:
    """Arms of one grid beside random search."""
    of, arms = found["of"], found["arms"]
    at = min(AT, of["trials"] // 2)
    references = [arms[name]["curve"] for name in (EXACT[0], OWN)]
    cells, seconds, regret = references[0][at - 1]
    trained = "" if of["trained_points"] == of["of"] else f" ({of['trained_points']} are trained so far)"
    lines = [
        f"{of['points']} points of the {of['of']} of the grid{trained}, "
        f"{of['seeds']} seeds, {of['distinct_cells']} distinct cells. Random search with {at} trials has a "
        f"regret of {100 * regret:.2f} points for {cells:.0f} cell-epochs ({seconds:.0f} s of one core) if "
        f"all points are equally likely; `{OWN}` has {100 * references[-1][at - 1][2]:.2f} for "
        f"{references[-1][at - 1][0]:.0f}.",
        "",
        "| arm | repeats | regret at half that cost | share of that cost for that regret: cell-epochs "
        f"| seconds | of `{OWN}`'s for its: cell-epochs | seconds | regret after all trials "
        "| share of random's cost of all trials |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, measured in arms.items():
        if "refused" not in measured:
            lines.append(line_of(name, measured, references, at))
    refused: dict[str, list[str]] = {}
    for name, measured in arms.items():
        if "refused" in measured:
            refused.setdefault(measured["refused"], []).append(name.partition("/")[0])
    lines += [
        f"\nRefused when the study is planned: {', '.join(dict.fromkeys(names))}. {reason}"
        for reason, names in refused.items()
    ]
    return "\n".join(lines)


def line_of(name: str, measured: dict[str, Any], references: list[list[list[float]]], at: int) -> str:
    """An arm beside random searches of ``at`` trials."""
    curve, shares = measured["curve"], []
    for reference in references:
        for i in (0, 1):
            cost = cost_to_reach([(step[i], step[2]) for step in curve], reference[at - 1][2])
            shares.append("not reached" if cost is None else f"{cost / reference[at - 1][i]:.2f}")
    half = [step[2] for step in curve if step[0] <= references[0][at - 1][0] / 2]
    cells = [
        name,
        measured["repeats"] or "all",
        f"{100 * half[-1]:.2f}" if half else "–",
        *shares,
        f"{100 * curve[-1][2]:.2f}",
        f"{curve[-1][0] / references[0][-1][0]:.2f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
