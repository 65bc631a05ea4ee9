"""Shared by several tests: the surroundings of a session, and a comparison that nobody trained."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compare.comparison import Affinity, Column, ColumnResult, Comparison, RateTrial
from orchestrator.driver.interrupt import Interrupt
from orchestrator.driver.session import Session
from orchestrator.driver.surroundings import Surroundings
from orchestrator.ledger import Invocation, Ledger, StudyStore
from orchestrator.study import StudyPlan
from orchestrator.tracking.tracker import NoTracker
from orchestrator.work.item import WorkItem
from orchestrator.work.shown import Progress

TASKS = ("clipart", "painting", "photo", "sketch")
PAIRINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
CHOSEN = {"1": PAIRINGS[2], "2": PAIRINGS[2], "3": PAIRINGS[0]}
RATES = (0.0035, 0.01, 0.035, 0.1, 0.35)
LEVELS = {
    "zero_shot": 0.445,
    "full_ft_single": 0.615,
    "coop_single": 0.548,
    "vpt_single": 0.571,
    "maple_single": 0.606,
    "full_ft": 0.659,
    "clip_adapter": 0.492,
    "bitfit": 0.637,
    "coop_mt": 0.553,
    "vpt_mt": 0.574,
    "maple_mt": 0.639,
    "mmap": 0.641,
    "mmap_task_b": 0.631,
    "mmap_task_2b": 0.634,
    "mmap_group_b": 0.619,
    "mmap_group_2b": 0.624,
    "mmap_all_in_one": 0.638,
    "joint": 0.628,
    "mlp": 0.615,
}
"""Averages at six shots under the tuned recipe that the made-up seeds scatter about."""


def _columns() -> tuple[Column, ...]:
    def table(name: str, label: str, method: str, regime: Any, parameters: int, **more: Any) -> Column:
        return Column(
            name=name,
            label=label,
            method=method,
            regime=regime,
            parameters=parameters,
            share=parameters / 4_393_729,
            **more,
        )

    def ablation(name: str, label: str, parameters: int, method: str = "mmap", **more: Any) -> Column:
        settings = {"prompt_length": 4, "modules": "both", **more.pop("settings", {})}
        return Column(
            name=name,
            label=label,
            section="ablation",
            method=method,
            settings=settings,
            parameters=parameters,
            share=parameters / 4_393_729,
            **more,
        )

    return (
        table("zero_shot", "ZeroShot", "zero_shot", None, 0),
        table("full_ft_single", "Full FT", "full_ft", "single", 17_574_916, printed="598.48M"),
        table("coop_single", "CoOp", "coop", "single", 8_192),
        table("vpt_single", "VPT", "vpt", "single", 36_864),
        table("maple_single", "MaPLe", "maple", "single", 280_576),
        table("full_ft", "Full FT", "full_ft", "multi", 4_393_729),
        table("clip_adapter", "CLIP-Adapter", "clip_adapter", "multi", 33_408),
        table("bitfit", "BitFit", "bitfit", "multi", 12_288),
        table("coop_mt", "CoOp-MT", "coop", "multi", 2_048),
        table("vpt_mt", "VPT-MT", "vpt", "multi", 9_216),
        table("maple_mt", "MaPLe-MT", "maple", "multi", 70_144),
        table(
            "mmap",
            "MmAP",
            "mmap",
            "multi",
            5_280,
            grouping="gradient",
            settings={"prompt_length": 4, "modules": "both"},
            printed="0.13M",
        ),
        ablation("mmap_task_b", "task-specific only, b", 3_520, settings={"modules": "task"}),
        ablation(
            "mmap_task_2b",
            "task-specific only, 2b",
            7_040,
            settings={"modules": "task", "prompt_length": 8},
        ),
        ablation(
            "mmap_group_b", "group-shared only, b", 1_760, settings={"modules": "group"}, grouping="gradient"
        ),
        ablation(
            "mmap_group_2b",
            "group-shared only, 2b",
            3_520,
            settings={"modules": "group", "prompt_length": 8},
            grouping="gradient",
        ),
        ablation("mmap_all_in_one", "all in one group", 4_400, grouping="single"),
        *(
            ablation(f"mmap_fixed_{i}", f"fixed {i}", 5_280, grouping="fixed", partition=pairing)
            for i, pairing in enumerate(PAIRINGS)
        ),
        ablation("joint", "joint prompts", 73_728, method="joint", grouping="gradient"),
        ablation("mlp", "MLP prompts", 128_000, method="mlp", grouping="gradient"),
    )


SHOTS = {"1-shot": -0.055, "3-shot": -0.02, "6-shot": 0.0, "12-shot": 0.03}


def make_comparison(
    *,
    dataset: str = "symbols",
    splits: tuple[str, ...] = ("6-shot",),
    seeds: tuple[str, ...] = ("1", "2", "3"),
    tasks: tuple[str, ...] = TASKS,
    recipes: tuple[str, ...] = ("shared", "tuned"),
    tune_ablation: bool = True,
    failed: Mapping[tuple[str, str], str] | None = None,
    missing: tuple[str, ...] = (),
    lift: float = 0.0,
) -> Comparison:
    """A made-up comparison, the same for the same arguments.

    Args:
        tune_ablation: whether ablation rows have tuned entries.
        failed: (column, recipe) and its error.
        missing: columns without any entry.
        lift: added to every accuracy.
    """
    columns = _columns()
    entries = []
    offsets = dict(zip(tasks, (0.10, -0.09, 0.04, -0.05), strict=True))
    for split in splits:
        for recipe in recipes:
            for column in columns:
                if column.name in missing or (column.regime is None and recipe == "tuned"):
                    continue
                if recipe == "tuned" and column.section == "ablation" and not tune_ablation:
                    continue
                entries.append(
                    _entry(
                        column, split, recipe, seeds, offsets, (failed or {}).get((column.name, recipe)), lift
                    )
                )
    return Comparison(
        name=dataset,
        dataset=dataset,
        manifest="0f" * 16,
        backbone="symbols-clip",
        fingerprint="ab" * 16,
        backbone_parameters=4_393_729,
        seeds=seeds,
        splits=splits,
        tasks=tasks,
        label_budget={
            split: (int(split.split("-")[0]), min(int(split.split("-")[0]), 4)) for split in splits
        },
        recipe={"epochs": 5, "batch_size": 16, "lr": 0.0035, "loss_reduction": "sum"},
        rates=RATES if "tuned" in recipes else (),
        columns=columns,
        entries=tuple(entries),
        affinities=tuple(_affinity(split, seed) for split in splits for seed in seeds),
        looks=({"time": "2030-01-01T00:00:00Z", "reason": "compare", "keys": ["ab"]},),
        provenance={"commit": "0123abc", "machine": "2 CPU cores"},
        commands=(f"orchestrator compare {dataset} --tune",),
    )


def _entry(
    column: Column,
    split: str,
    recipe: str,
    seeds: tuple[str, ...],
    offsets: Mapping[str, float],
    error: str | None,
    lift: float,
) -> ColumnResult:
    trained = column.regime is not None
    if error is not None:
        return ColumnResult(column=column.name, split=split, recipe=recipe, error=error)  # type: ignore[arg-type]
    if column.grouping == "fixed":
        level = {PAIRINGS[0]: 0.634, PAIRINGS[1]: 0.622, PAIRINGS[2]: 0.641}[column.partition or ()]
    else:
        level = LEVELS[column.name]
    if trained:
        level += SHOTS.get(split, 0.0) - (0.03 if recipe == "shared" else 0.0)
    tasks: dict[str, dict[str, float]] = {task: {} for task in offsets}
    for seed in seeds:
        common = random.Random(f"{seed}").gauss(0, 0.006)
        for task, offset in offsets.items():
            name = column.name
            if name == "mmap":  # the same cell as the fixed partition it chose
                chosen = CHOSEN[seed] if seed in CHOSEN else PAIRINGS[0]
                name = f"mmap_fixed_{PAIRINGS.index(chosen)}"
                level = {PAIRINGS[0]: 0.634, PAIRINGS[1]: 0.622, PAIRINGS[2]: 0.641}[chosen]
                level += SHOTS.get(split, 0.0) - (0.03 if recipe == "shared" else 0.0)
            noise = random.Random(f"{name} {split} {recipe} {task} {seed}").gauss(0, 0.008)
            tasks[task][seed] = min(1.0, level + lift + offset + common + noise)
    tuned = recipe == "tuned" and trained
    lr = RATES[random.Random(column.name).randrange(len(RATES))] if tuned else 0.0035
    means = {s: sum(t[s] for t in tasks.values()) / len(tasks) for s in seeds}
    return ColumnResult(
        column=column.name,
        split=split,
        recipe=recipe,  # type: ignore[arg-type]
        lr=lr if trained else None,
        edge={RATES[0]: "low", RATES[-1]: "high"}.get(lr) if tuned else None,  # type: ignore[arg-type]
        tasks=tasks,
        validation={s: v - 0.01 for s, v in means.items()},
        seconds=random.Random(f"{column.name}s").uniform(30, 400) if trained else 4.0,
        probe_seconds=55.0 if column.grouping == "gradient" else 0.0,
        partitions={s: CHOSEN.get(s, PAIRINGS[0]) for s in seeds} if column.grouping == "gradient" else {},
        cells={s: f"{column.name}-{s}" for s in seeds},
        trials=tuple(
            RateTrial(lr=rate, error="loss is NaN in epoch 2")
            if column.method == "vpt" and rate == RATES[-1]
            else RateTrial(lr=rate, validation={s: v - abs(rate - lr) for s, v in means.items()})
            for rate in RATES
        )
        if tuned
        else (),
    )


def _affinity(split: str, seed: str) -> Affinity:
    draw = random.Random(f"{split}{seed}")
    matrix = [[0.0] * 4 for _ in range(4)]
    for i in range(4):
        matrix[i][i] = draw.uniform(2.0, 3.0) * 1e-3
        for j in range(i):
            together = any(i in group and j in group for group in CHOSEN.get(seed, PAIRINGS[0]))
            matrix[i][j] = matrix[j][i] = draw.uniform(0.4, 0.8) * 1e-3 + (4e-4 if together else 0.0)
    return Affinity(
        split=split,
        seed=seed,
        similarity=tuple(tuple(row) for row in matrix),
        partition=CHOSEN.get(seed, PAIRINGS[0]),
        score=2.3e-3,
        second=PAIRINGS[1],
        second_score=1.9e-3,
        margin=4e-4,
        agreement=0.87,
        bootstrap=0.96,
        notes=("tag_mean fixes the sizes of the groups",),
    )


@pytest.fixture
def surroundings(tmp_path: Path) -> Callable[..., Surroundings]:
    """Of a session of a plan and its store, without MLflow; ``progress`` takes what a user is shown."""

    def surround(plan: StudyPlan, store: StudyStore, progress: Progress = lambda event: None) -> Surroundings:
        return Surroundings(
            plan=plan,
            store=store,
            ledger=Ledger(store.storage),
            tracker=NoTracker(),
            progress=progress,
            invocation=Invocation(),
            lease=store.driver_lease(),
            interrupt=Interrupt(),
            folder=tmp_path,
            executor="",
            started=threading.Event(),
        )

    return surround


class Idle:
    """Nothing to do."""

    def work(self) -> None: ...
    def after_events(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Remembering:
    """A pool that takes all and does nothing."""

    actor = fault = None

    def submit(self, item: WorkItem, needs: Sequence[str] = (), parts: Sequence[WorkItem] = ()) -> None: ...
    def go_on(self, item: WorkItem) -> None: ...
    def cancel(self, item_id: str) -> None: ...
    def forget(self, item_id: str) -> None: ...


@pytest.fixture
def idle_session(surroundings: Callable[..., Surroundings]) -> Callable[..., Session]:
    """A session of the study ``unit`` that has nothing to do, with a pool that does nothing."""

    def make(plan: StudyPlan, progress: Progress) -> Session:
        store = StudyStore(plan.study.storage, "unit")
        store.save_study(plan.study.to_plain())
        session = Session(surroundings(plan, store, progress), lambda session: Idle())
        session.serve(Remembering())  # type: ignore[arg-type]
        return session

    return make


@pytest.fixture
def imported() -> Callable[..., str]:
    """Which of some modules a new process has after ``import``, as it prints them: ``[]`` if none."""

    def show(imports: str, modules: set[str]) -> str:
        code = f"import sys, {imports}; print(sorted({modules!r} & set(sys.modules)))"
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()

    return show


@pytest.fixture
def comparison() -> Comparison:
    """Symbols at six shots, both recipes, complete."""
    return make_comparison()


@pytest.fixture
def make() -> Callable[..., Comparison]:
    """`make_comparison`."""
    return make_comparison


@pytest.fixture
def without() -> Callable[[Comparison, str], Comparison]:
    """A comparison without the entries of one column."""

    def drop(comparison: Comparison, column: str) -> Comparison:
        kept = tuple(e for e in comparison.entries if e.column != column)
        return dataclasses.replace(comparison, entries=kept)

    return drop
