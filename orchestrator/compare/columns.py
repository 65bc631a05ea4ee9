"""The columns of the paper's Tables 1 and 2, the rows of its ablations, and custom columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from mmap_model.configuration import Partition
from mmap_model.methods import get_method
from mmap_model.plain import from_plain
from orchestrator.compare.comparison import ColumnSection

if TYPE_CHECKING:
    from orchestrator.ledger import TrialRecord

FULL_FT_RATE = 0.1
"""Full fine-tuning starts at this share of ``recipe.lr``: the paper states its rate, 0.0035, for
parameter-efficient methods only, and at that rate a whole CLIP forgets what it knew. Our choice."""

MOST_PAIRINGS = 15
"""Partitions of equal group sizes that the ablation trains one by one (six tasks have 15)."""


@dataclass(frozen=True, kw_only=True)
class ColumnSpec:
    """What a column trains.

    Attributes:
        name, label, section: see ``Column``.
        method: registered name.
        settings: of the method, those that the column fixes; what is missing is the study's or the default.
        preferred: settings that it has unless the study says otherwise.
        regime: as the paper groups its columns.
        grouping: mode in place of the study's, or None to take the study's.
        partition: of mode ``fixed``.
        doubled: prompts of twice the study's length, so that a row without one kind of module sees as many
            tokens as the whole framework.
        printed: the paper's parameters.
    """

    name: str
    label: str
    section: ColumnSection = "table"
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    preferred: Mapping[str, Any] = field(default_factory=dict)
    regime: Literal["single", "multi", "grouped"] | None = "multi"
    grouping: Literal["fixed", "random", "single"] | None = None
    partition: Partition | None = None
    doubled: bool = False
    printed: str | None = None


def _single(name: str, label: str, method: str, printed: str) -> ColumnSpec:
    return ColumnSpec(
        name=name,
        label=label,
        method=method,
        settings={"regime": "single"},
        regime="single",
        printed=printed,
    )


TABLE: tuple[ColumnSpec, ...] = (
    ColumnSpec(name="zero_shot", label="ZeroShot", method="zero_shot", regime=None),
    _single("full_ft_stl", "Full FT", "full_ft", "598.48M"),
    _single("coop", "CoOp", "coop", "0.04M"),
    _single("vpt", "VPT", "vpt", "0.68M"),
    _single("maple", "MaPLe", "maple", "19.2M"),
    ColumnSpec(name="full_ft", label="Full FT", method="full_ft", printed="149.62M"),
    ColumnSpec(name="clip_adapter", label="CLIP-Adapter", method="clip_adapter", printed="0.53M"),
    ColumnSpec(name="bitfit", label="BitFit", method="bitfit", printed="0.17M"),
    ColumnSpec(name="coop_mt", label="CoOp-MT", method="coop", printed="0.01M"),
    ColumnSpec(name="vpt_mt", label="VPT-MT", method="vpt", printed="0.17M"),
    ColumnSpec(name="maple_mt", label="MaPLe-MT", method="maple", printed="4.8M"),
    ColumnSpec(name="mmap", label="MmAP", method="mmap", printed="0.13M"),
)
"""Tables 1 and 2, in their order."""


def run_name(label: str, regime: str | None, split: str, lr: float | None) -> str:
    """Name of a row's run in MLflow: seeds that are added later join it."""
    how = {"single": " (single-task)", "grouped": " (grouped)"}.get(regime or "", "")
    rate = "" if lr is None else f" · lr {lr:g}"
    return f"{label}{how} · {split}{rate}"


ABLATION: tuple[ColumnSpec, ...] = (
    ColumnSpec(
        name="task_only",
        label="task-specific only",
        section="ablation",
        method="mmap",
        settings={"modules": "task"},
        grouping="single",
    ),
    ColumnSpec(
        name="task_only_2b",
        label="task-specific only, 2b",
        section="ablation",
        method="mmap",
        settings={"modules": "task"},
        grouping="single",
        doubled=True,
    ),
    ColumnSpec(
        name="group_only",
        label="group-shared only",
        section="ablation",
        method="mmap",
        settings={"modules": "group"},
    ),
    ColumnSpec(
        name="group_only_2b",
        label="group-shared only, 2b",
        section="ablation",
        method="mmap",
        settings={"modules": "group"},
        doubled=True,
    ),
    ColumnSpec(
        name="one_group", label="all in one group", section="ablation", method="mmap", grouping="single"
    ),
    ColumnSpec(name="joint", label="joint prompts", section="ablation", method="joint"),
    ColumnSpec(name="mlp", label="MLP prompts", section="ablation", method="mlp", printed="3.96M"),
)

RANDOM = "random_grouping"
"""The row of Table 3 that averages the pairings which the gradients did not choose."""


def ablation(tasks: Sequence[str]) -> tuple[ColumnSpec, ...]:
    """Rows of Table 3 and of the prompt-generator figure, without the framework itself (``mmap``).

    All partitions of the sizes that ``tag_mean`` gives are rows of their own (pairs, one triple if the number
    of tasks is odd); above `MOST_PAIRINGS` of them a random one per seed stands for all.
    """
    if len(tasks) < 2:
        return tuple(c for c in ABLATION if c.name in ("joint", "mlp"))
    found = list(pairings(len(tasks)))
    if len(found) > MOST_PAIRINGS:
        rows = [
            ColumnSpec(
                name=RANDOM, label="random grouping", section="ablation", method="mmap", grouping="random"
            )
        ]
    else:
        rows = [
            ColumnSpec(
                name="groups_" + "_".join("".join(map(str, group)) for group in partition),
                label=" | ".join("+".join(tasks[t] for t in group) for group in partition),
                section="ablation",
                method="mmap",
                grouping="fixed",
                partition=partition,
            )
            for partition in found
        ]
    return (*ABLATION, *rows)


def pairings(tasks: int) -> Iterable[Partition]:
    """All partitions of ``tasks`` >= 2 into pairs, with one triple if their number is odd, in order."""

    def pair(left: tuple[int, ...]) -> Iterable[tuple[tuple[int, ...], ...]]:
        if not left:
            yield ()
            return
        for other in left[1:]:
            rest = tuple(t for t in left[1:] if t != other)
            for groups in pair(rest):
                yield ((left[0], other), *groups)

    everyone = tuple(range(tasks))
    if tasks % 2 == 0:
        yield from pair(everyone)
        return
    for triple in combinations(everyone, 3):
        rest = tuple(t for t in everyone if t not in triple)
        for groups in pair(rest):
            yield tuple(sorted((triple, *groups)))


def resolve_settings(column: ColumnSpec, base: Mapping[str, Any], where: str) -> Any:
    """The settings of a column: what it prefers, under ``base`` (the study's), under what it fixes.

    Raises:
        ConfigurationError: a setting that the method does not know.
    """
    method = get_method(column.method)
    settings: Any = from_plain(method.Settings, {**column.preferred, **base, **column.settings}, where)
    if not column.doubled:
        return settings
    length = settings.prompt_length
    rows = 2 * settings.source_rows if settings.source_rows == length else settings.source_rows
    return replace(settings, prompt_length=2 * length, source_rows=rows)


def recorded_run_name(record: TrialRecord) -> str | None:
    """Name in MLflow of a row whose record does not have it; None where its label depended on the dataset."""
    about = record.attributes
    known = {column.name: column for column in (*TABLE, *ABLATION)}
    column = known.get(about.get("column", ""))
    return None if column is None else run_name(column.label, column.regime, about["split"], about.get("lr"))
