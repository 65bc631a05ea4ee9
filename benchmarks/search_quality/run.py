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
from collections.abc import Iterator
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
    for name, used in (("random, exact", OBSERVED), ("random, one seed, exact", 1)):
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


def arm_or_refusal(name: str, repeats: int, trials: int) -> dict[str, Any]:
    """The arm of this name, in a process of its own; why the study is refused, where it is."""
    sampler, _, stopping = name.partition("/")
    try:
        return arm(read(), sampler, stopping, repeats, trials)
    except InputError as refused:
        return {"refused": str(refused)}


def measured(names: list[str], repeats: int, trials: int, jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arms with their names, as they end."""
    with ProcessPoolExecutor(jobs) as processes:
        waiting = {processes.submit(arm_or_refusal, name, repeats, trials): name for name in names}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def save(result: dict[str, Any]) -> None:
    """Write what is measured so far, arms in the order in which they are listed."""
    order = [f"{sampler}/{stopping}" for stopping in STOPPING for sampler in SAMPLERS]
    place = {name: index for index, name in enumerate(["random, exact", "random, one seed, exact", *order])}
    arms = sorted(result["arms"].items(), key=lambda item: place.get(item[0], len(place)))
    written = {**result, "arms": dict(arms), "provenance": provenance()}
    RESULTS.write_text(json.dumps(written, indent=1) + "\n")


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
    table = read()
    trials = min(TRIALS, len(table.values))
    result = {"of": identity(table, trials), "arms": {}}
    if RESULTS.exists():
        before = json.loads(RESULTS.read_text())
        if before["of"] == result["of"]:
            result["arms"] = before["arms"]
    result["arms"] |= exact_arms(table, trials)
    wanted = options.arms or [f"{sampler}/{stopping}" for stopping in STOPPING for sampler in SAMPLERS]
    missing = [name for name in wanted if result["arms"].get(name, {}).get("repeats", 0) < options.repeats]
    for name, found in measured(missing, options.repeats, trials, options.jobs):
        result["arms"][name] = found
        print(name, found.get("refused") or found["curve"][-1], flush=True)
        save(result)
    save(result)
    render()


def render() -> None:
    """The table of the README, from results.json alone."""
    result = json.loads(RESULTS.read_text())
    of, arms = result["of"], result["arms"]
    at = min(AT, of["trials"] // 2)
    reference = arms["random, exact"]["curve"]
    target = reference[at - 1][2]
    lines = [
        f"{of['points']} points of the {of['of']} of the grid ({of['trained_points']} are trained so far), "
        f"{of['seeds']} seeds, {of['distinct_cells']} distinct cells. Random search with {at} trials has a "
        f"regret of {100 * target:.2f} points for {reference[at - 1][0]:.0f} cell-epochs "
        f"({reference[at - 1][1]:.0f} s of one core).",
        "",
        "| arm | repeats | regret at half that cost | share of that cost for that regret: cell-epochs "
        "| seconds | regret after all trials | share of random's cost of all trials |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in arms.items():
        if "refused" in found:
            continue
        curve = found["curve"]
        epochs = [(step[0], step[2]) for step in curve]
        seconds = [(step[1], step[2]) for step in curve]
        cost = [cost_to_reach(epochs, target), cost_to_reach(seconds, target)]
        shares = [
            "not reached" if c is None else f"{c / reference[at - 1][i]:.2f}" for i, c in enumerate(cost)
        ]
        half = [step[2] for step in curve if step[0] <= reference[at - 1][0] / 2]
        lines.append(
            f"| {name} | {found['repeats'] or 'all'} | {100 * half[-1]:.2f} | {shares[0]} | {shares[1]} "
            f"| {100 * curve[-1][2]:.2f} | {curve[-1][0] / reference[-1][0]:.2f} |"
            if half
            else f"| {name} | {found['repeats'] or 'all'} | – | {shares[0]} | {shares[1]} "
            f"| {100 * curve[-1][2]:.2f} | {curve[-1][0] / reference[-1][0]:.2f} |"
        )
    refused: dict[str, list[str]] = {}
    for name, found in arms.items():
        if "refused" in found:
            refused.setdefault(found["refused"], []).append(name.partition("/")[0])
    lines += [
        f"\nRefused when the study is planned: {', '.join(dict.fromkeys(names))}. {reason}"
        for reason, names in refused.items()
    ]
    page = README.read_text()
    head, tail = page[: page.index(BEGIN)], page[page.index(END) :]
    README.write_text(f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{tail}")


if __name__ == "__main__":
    main()
