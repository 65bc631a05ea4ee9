"""How often gradient grouping finds the known groups: results.json, and the tables of README.md.

    python benchmarks/known_groups/judge.py

Reads what run.py has kept, however much that is. The first reading is the study's own; the others are read
from the same gradients and were not chosen by anything seen here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import factorial, prod
from typing import Any

import yaml
from kept import Kept, grams_of
from run import CLIPS, HERE, PARTITIONS
from scipy.stats import binomtest
from sklearn.metrics import adjusted_rand_score

from mmap_model.configuration import Grouping, Partition
from mmap_model.grouping import resolve_partition
from mmap_model.plain import from_plain
from mmap_model.symbols import GROUPED_TASKS, known_partition
from orchestrator.statistics.summary import paired_difference, summarize

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def readings() -> list[Grouping]:
    """The study's own, then every other way to read the same gradients."""
    study = yaml.safe_load((HERE / "study.yaml").read_text(encoding="utf-8"))
    own = from_plain(Grouping, study["grouping"], "study.yaml: grouping")
    others = [
        replace(own, objective=objective, similarity=similarity, space=space)
        for objective, similarity, space in product(
            ("tag_mean", "sum_centered"), ("dot", "cosine"), ("prompts", "parameters")
        )
    ]
    return [own, *(other for other in others if other != own)]


def chance(partition: Partition) -> float:
    """The probability that a random partition of the same sizes is this one."""
    sizes = [len(group) for group in partition]
    alike = prod(factorial(sizes.count(size)) for size in set(sizes))
    ways = factorial(sum(sizes)) // prod(factorial(size) for size in sizes) // alike
    return 1 / ways


def recovery(probes: Sequence[dict[str, Any]], reading: Grouping) -> dict[str, Any]:
    """Of one reading over seeds: how often the truth was found, and how near the rest came."""
    truth = known_partition()
    found = [
        resolve_partition(reading, grams_of(probe), tasks=len(GROUPED_TASKS), train_seed=probe["seed"])
        for probe in probes
    ]
    exact = sum(each.partition == truth for each in found)
    test = binomtest(exact, len(found), chance(truth), alternative="greater")
    interval = binomtest(exact, len(found)).proportion_ci(method="exact")
    rand = [adjusted_rand_score(labels(truth), labels(each.partition)) for each in found]
    return {
        "objective": reading.objective,
        "similarity": reading.similarity,
        "space": reading.space,
        "seeds": len(found),
        "exact": exact,
        "rate": exact / len(found),
        "interval": [float(interval.low), float(interval.high)],
        "chance": chance(truth),
        "p": float(test.pvalue),
        "adjusted_rand": summarize(rand).to_dict(),
        "exchanged_apart": sum(exchanged_apart(each.partition) for each in found),
        "partitions": [each.partition for each in found],
        "bootstrap": [each.bootstrap for each in found],
    }


def labels(partition: Partition) -> list[int]:
    """The group of every task."""
    return [next(g for g, members in enumerate(partition) if task in members) for task in range(8)]


def exchanged_apart(partition: Partition) -> bool:
    """No task with exchanged names shares a group with one that has its own."""
    exchanged = {number for number, task in enumerate(GROUPED_TASKS) if task.name.startswith("exchanged")}
    return all(set(group) <= exchanged or not set(group) & exchanged for group in partition)


def trained(kept: Kept) -> dict[str, Any]:
    """Validation accuracy of MmAP by what it was trained on, and what that differs by from random groups."""
    by_what = {what: {r["seed"]: accuracy(r) for r in kept.of(what)} for what in PARTITIONS}
    by_what = {what: values for what, values in by_what.items() if values}
    return {
        what: {
            "accuracy": summarize(list(values.values())).to_dict(),
            "over_random": difference(values, by_what.get("random", {})) if what != "random" else None,
        }
        for what, values in by_what.items()
    }


def accuracy(record: dict[str, Any]) -> float:
    """Mean over the tasks, in percent."""
    return 100 * sum(record["validation"].values()) / len(record["validation"])


def difference(a: dict[int, float], b: dict[int, float]) -> dict[str, Any] | None:
    found = paired_difference(a, b)
    return None if found is None else found.to_dict()


def tables(results: dict[str, Any]) -> Iterator[str]:
    """The README's part, in Markdown."""
    yield from heading(
        *("CLIP", "reading", "found exactly", "95 % interval", "p against chance"),
        *("adjusted Rand index", "exchanged apart"),
    )
    for clip, result in results.items():
        for number, row in enumerate(result["recovery"]):
            name = f"{row['objective']}, {row['similarity']}, {row['space']}"
            low, high = (100 * bound for bound in row["interval"])
            yield line(
                f"`{clip}`",
                f"**{name}**" if number == 0 else name,
                f"{row['exact']} of {row['seeds']}",
                f"{low:.0f} to {high:.0f} %",
                f"{row['p']:.2g}",
                spread(row["adjusted_rand"], 2),
                f"{row['exchanged_apart']} of {row['seeds']}",
            )
    if not any(result["trained"] for result in results.values()):
        return
    yield ""
    yield from heading(
        *("CLIP", "MmAP trained on", "validation accuracy, %"),
        "over random groups, points (paired 95 % interval)",
    )
    for clip, result in results.items():
        for what, row in result["trained"].items():
            over, found = row["over_random"], row["accuracy"]
            yield line(
                f"`{clip}`",
                what,
                f"{spread(found, 1)} (n = {found['n']})",
                f"{over['mean']:+.1f} ({over['low']:+.1f} to {over['high']:+.1f})" if over else "–",
            )


def heading(*titles: str) -> Iterator[str]:
    yield line(*titles)
    yield line(*("---" for _ in titles))


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def spread(summary: dict[str, Any], digits: int) -> str:
    """Mean ± standard deviation."""
    deviation = "" if summary["std"] is None else f" ± {summary['std']:.{digits}f}"
    return f"{summary['mean']:.{digits}f}{deviation}"


def main() -> None:
    results: dict[str, Any] = {}
    for clip in CLIPS:
        kept = Kept(HERE / "results" / f"{clip}.jsonl")
        if probes := kept.of("probe"):
            results[clip] = {
                "recovery": [recovery(probes, reading) for reading in readings()],
                "trained": trained(kept),
                "machines": sorted({f"{r['machine']}, torch {r['torch']}" for r in kept.records.values()}),
                "seconds": round(sum(r["seconds"] for r in kept.records.values())),
            }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    written = "\n".join(tables(results))
    readme.write_text(f"{before}{BEGIN}\n\n{written}\n\n{END}{after}", encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
