"""What is compared, in which order: a stage is one comparison of a CLIP, and what is scored after it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.compare.plan import ComparePlan, plan_comparison


def _both(*methods: str) -> tuple[str, ...]:
    """Columns of methods in ``single`` and ``multi``."""
    return tuple(f"{method}_{regime}" for method in methods for regime in ("stl", "multi"))


TASKS = ("clipart", "painting", "photo", "sketch")
THREE = (1, 2, 3)
TEN = tuple(range(1, 11))
RATES = 3
"""Tried for every column; more beyond an end, see `Stage.most`."""

TRANSFERRED = (
    "mmap",
    "one_group",
    "maple_mt",
    "clip_lora",
    "two_stage",
    "zs_lp",
    "clap",
    "task_res",
    "promptsrc",
    "ivlp",
)
"""Methods that say something of a class that they were not trained on, in all their regimes. Caches refuse
new classes; the weights of whole CLIPs are dropped once they are scored."""

UNSEEN = (
    "mmap",
    "group_only_2b",
    "maple_mt",
    *(f"{name}_multi" for name in (*TRANSFERRED[3:], "tip_adapter", "tip_adapter_f")),
)
"""Scored on a task left out: what all tasks train, and what MmAP's groups share. Groups behind other methods
are not: three tasks are one group."""

SEVERAL = ("mmap", "two_stage")
"""Of `UNSEEN` the columns with a part for each task, and so with several predictors for one left out."""

PUBLISHED = {
    "features": _both("zs_lp", "clap", "task_res", "tip_adapter", "tip_adapter_f"),
    "prompts": ("mmap", "maple", "maple_mt", "full_ft_stl", "full_ft", *_both("promptsrc", "ivlp")),
    "two_stage": _both("two_stage"),
    "clip_lora": _both("clip_lora"),
}
"""Methods by their authors' recipes, together those of ``2026``: in parts that two cores do in two hours."""

FORMS = (
    "compare.methods.maple.settings="
    "{prompt_length: 2, depth: 3, init_words: 'a photo', template: 'of a {}.'}",
)
"""Models as their authors publish them, where those that are compared by default are the paper's: MaPLe's 2
tokens start as words, in three quarters of the layers, as 9 of 12."""

KINDS = ("tuned", "grouped", "base", "without", "published")
"""Of stages, in order of worth."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One comparison.

    Attributes:
        kind: one of `KINDS`.
        name: of the comparison; stages of one name share their records.
        report: folder of its report.
        clip: model name of the CLIP.
        overrides: further keys of the study.
        methods, seeds, tune, recipes: as of ``orchestrator compare``.
        most: rates tried for a column at most.
        to: what the columns' chosen cells are scored on, as of ``orchestrator transfer --to``.
    """

    kind: str
    name: str
    report: str
    clip: str
    overrides: tuple[str, ...] = ()
    methods: tuple[str, ...]
    seeds: tuple[int, ...] = THREE
    tune: int = RATES
    recipes: tuple[str, ...] = ("tuned",)
    most: int = 7
    to: str | None = None

    def keys(self, storage: Path) -> list[str]:
        """The overrides of the study that decide what is trained, and where its records go."""
        return [
            f"name={self.name}",
            f"backbone.model={self.clip}",
            f"compare.most_rates={self.most}",
            # Nothing looks at the epochs between.
            "compute.evaluate=last",
            f"storage={storage}",
            *self.overrides,
        ]

    def arguments(self, storage: Path, further: Sequence[str] = ()) -> list[str]:
        """Of ``orchestrator``."""
        found = ["compare", "symbols", *self.keys(storage), *further, "--rates", "own"]
        found += [f"--methods={name}" for name in self.methods]
        found += [f"--seeds={seed}" for seed in self.seeds]
        found += [f"--recipes={name}" for name in self.recipes]
        found += ["--output", str(storage / "reports" / self.report)]
        return [*found, "--tune", str(self.tune)] if self.tune else found

    def plan(self, storage: Path) -> ComparePlan:
        """What is trained, checked; starts nothing."""
        options: dict[str, Any] = {"tune": self.tune, "rates": "own", "recipes": self.recipes}
        return plan_comparison(
            "symbols", self.keys(storage), methods=self.methods, seeds=self.seeds, **options
        )


def stages(clips: Iterable[str], kinds: Iterable[str] = KINDS, *, tiny: bool = False) -> Iterator[Stage]:
    """All stages of some CLIPs, the most telling first: a kind for every CLIP, then the next kind."""
    clips = [*clips]
    for kind in kinds:
        for clip in clips:
            yield from (_tiny(stage) if tiny else stage for stage in _of(kind, clip))


def _of(kind: str, clip: str) -> Iterator[Stage]:
    name = f"methods-2026-{clip}"
    stage = functools.partial(Stage, kind=kind, clip=clip)
    match kind:
        case "tuned":
            yield stage(name=name, report=f"{clip}/tuned", methods=("2026",))
        case "grouped":
            yield stage(name=name, report=f"{clip}/grouped", methods=("grouped",), seeds=TEN)
        case "base":
            yield stage(
                name=f"{name}-base",
                report=f"{clip}/base",
                overrides=("dataset.class_half=base",),
                methods=("zero_shot", *TRANSFERRED),
                to="new",
            )
        case "without":
            for task in TASKS:
                others = ", ".join(other for other in TASKS if other != task)
                yield stage(
                    name=f"{name}-without-{task}",
                    report=f"{clip}/without_{task}",
                    overrides=(f"dataset.tasks=[{others}]",),
                    methods=("zero_shot", *UNSEEN),
                    to=task,
                )
        case "published":
            for part, methods in PUBLISHED.items():
                yield stage(
                    name=name,
                    report=f"{clip}/published_{part}",
                    overrides=FORMS if part == "prompts" else (),
                    methods=("zero_shot", *methods),
                    tune=0,
                    recipes=("published",),
                )


def _tiny(stage: Stage) -> Stage:
    """Two methods, one seed, one shot, two epochs: whether everything is reached, in minutes."""
    from dataclasses import replace

    small = ("splits=[{shots: 1}]", "largest_shots=null", "recipe.epochs=2", "grouping.snapshot_every=2")
    methods = ("zero_shot", "mmap", "zs_lp", "ivlp_stl") if stage.tune else ("zero_shot", "zs_lp_stl")
    overrides = (*stage.overrides, *small)
    if not stage.tune:
        overrides = (*overrides, "compare.methods.zs_lp={recipe: {epochs: 2, views: 1}}")
    return replace(
        stage,
        overrides=overrides,
        methods=methods,
        seeds=stage.seeds[:2] if stage.kind == "grouped" else stage.seeds[:1],
        tune=min(stage.tune, 2),
        most=2,
    )
