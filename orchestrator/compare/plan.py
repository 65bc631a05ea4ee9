"""What a comparison will train, checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mmap_model.cells import Configuration, Point
from mmap_model.class_texts import check_class_texts
from mmap_model.configuration import Grouping, Recipe, Seeds, Split
from mmap_model.errors import InputError
from mmap_model.methods import get_method
from mmap_model.methods.registry import method_identity
from mmap_model.plain import content_key, from_plain, to_plain
from mmap_model.revisions import revisions_of
from orchestrator.compare.columns import FULL_FT_RATE, ColumnSpec, choose_columns, resolve_settings
from orchestrator.compare.comparison import Column
from orchestrator.study import StudyPlan, plan_study
from orchestrator.study.errors import StudyError
from orchestrator.study.fields import with_published
from orchestrator.study.load import build_study, read_source
from orchestrator.study.model import ColumnOptions
from orchestrator.study.source import Source, override
from orchestrator.work.item import WorkItem

TUNED_ON = 3
"""Seeds whose validation images choose the learning rate, at most: the others only measure the choice."""


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """Cells of one column at one split and learning rate.

    Attributes:
        column: name.
        point: what is trained.
        split, seeds: the cells.
        key: names the row in the records.
    """

    column: str
    point: Point
    split: Split
    seeds: tuple[Seeds, ...]
    key: str

    @property
    def lr(self) -> float | None:
        """Peak learning rate; None where nothing is trained."""
        return self.point.recipe.lr if get_method(self.point.method).trains else None


@dataclass(frozen=True)
class ComparePlan:
    """A comparison.

    Attributes:
        base: the dataset, the backbone, the seeds and splits, and everything else that rows share.
        columns: what is compared.
        rates: learning rates of the tuned recipe, ascending; empty if only the shared one is wanted.
    """

    base: StudyPlan
    columns: tuple[ColumnSpec, ...]
    rates: tuple[float, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.base.data.tasks)

    @cached_property
    def points(self) -> Mapping[str, Point]:
        """By column, with the shared recipe."""
        return {column.name: self._point(column) for column in self.columns}

    @property
    def tuning_seeds(self) -> tuple[Seeds, ...]:
        return self.base.study.seeds[:TUNED_ON]

    def shared(self) -> Iterator[PlannedRow]:
        """Rows of the shared recipe."""
        for split in self.base.study.splits:
            for column in self.columns:
                yield self._row(column.name, self.points[column.name], split, self.base.study.seeds)

    def tried(self, column: str, split: Split) -> Iterator[PlannedRow]:
        """Rows of the rates that are tried for a column; none where nothing is trained."""
        if get_method(self.points[column].method).trains:
            for rate in self.rates:
                yield self._row(column, self._at(column, rate), split, self.tuning_seeds)

    def chosen(self, column: str, split: Split, rate: float) -> PlannedRow:
        """The row of the rate that was chosen for a column, on all seeds."""
        return self._row(column, self._at(column, rate), split, self.base.study.seeds)

    def first_rows(self) -> list[PlannedRow]:
        """All rows that can be trained before any rate is chosen, each once, the longest first."""
        rows = [*self.shared()]
        for split in self.base.study.splits:
            for column in self.columns:
                rows += self.tried(column.name, split)
        return sorted({row.key: row for row in rows}.values(), key=_length)

    def work_item(self, row: PlannedRow, **fields: Any) -> WorkItem:
        """The work of a row."""
        return self.base.work_item(row.point, splits=(row.split,), seeds=row.seeds, **fields)

    def column(self, spec: ColumnSpec, parameters: int | None = None) -> Column:
        """A column for the report; ``parameters`` as counted in its cells, else for half as many groups."""
        point = self.points[spec.name]
        method = get_method(spec.method)
        tasks = len(self.base.data.tasks)
        if parameters is None:
            parameters = method.count(
                point.settings, self.base.architecture, tasks=tasks, groups=max(1, tasks // 2)
            )
        return Column(
            name=spec.name,
            label=spec.label,
            section=spec.section,
            method=spec.method,
            settings=to_plain(point.settings),
            regime=spec.regime,
            grouping=None if point.grouping is None else point.grouping.mode,
            partition=spec.partition,
            parameters=parameters,
            share=parameters / self.base.backbone_parameters,
            printed=spec.printed,
        )

    def _row(self, column: str, point: Point, split: Split, seeds: tuple[Seeds, ...]) -> PlannedRow:
        study = self.base.study
        identity = {
            "point": {**point.to_dict(), "method": method_identity(point.method)},
            "split": to_plain(split),
            "seeds": [to_plain(seed) for seed in seeds],
            "protocol": study.protocol,
            "largest_shots": study.shots_before_validation,
            "precision": study.precision,
            "dataset": self.base.data.manifest,
            "backbone": self.base.fingerprint,
        }
        some = Configuration(method=point.method, settings=point.settings, recipe=point.recipe)
        cell = self.base.cell(some, split, seeds[0])
        if cell.largest_percent is not None:
            identity["largest_percent"] = cell.largest_percent
        if revisions := revisions_of(cell):
            identity["revisions"] = revisions
        key = content_key(identity)[:16]
        return PlannedRow(column=column, point=point, split=split, seeds=seeds, key=key)

    def _at(self, column: str, rate: float) -> Point:
        point = self.points[column]
        return replace(point, recipe=replace(point.recipe, lr=rate))

    def _point(self, column: ColumnSpec) -> Point:
        study = self.base.study
        method = get_method(column.method)
        options = study.compare.methods.get(column.method, ColumnOptions())
        base = to_plain(study.settings) if study.method == method.name else {}
        where = f"compare.methods.{column.method}"
        settings = resolve_settings(column, {**base, **options.settings}, f"{where}.settings")
        try:
            method.require(settings, self.base.architecture)
        except InputError as error:
            raise StudyError(
                error.problem,
                where=f"{where}.settings.{error.where}" if error.where else where,
                fix=f"{error.fix}; write it into the study, or leave {column.name} out of --methods",
            ) from None
        recipe = study.recipe
        if column.method == "full_ft":
            recipe = replace(recipe, lr=_rounded(FULL_FT_RATE * recipe.lr))
        own = with_published(options.recipe, column.method, f"{where}.recipe")
        kept = to_plain(recipe)
        if own is not options.recipe:  # the authors' recipe does not start from the study's
            kept = {key: kept[key] for key in ("template", "augment")}
        recipe = from_plain(Recipe, {**kept, **own}, f"{where}.recipe")
        names = [name for task in self.base.data.tasks for name in task.classes]
        check_class_texts(method.texts(settings, recipe.template), names, self.base.architecture)
        return Point(
            method=column.method, settings=settings, recipe=recipe, grouping=self._grouping(column, settings)
        )

    def _grouping(self, column: ColumnSpec, settings: Any) -> Grouping | None:
        if not get_method(column.method).needs_partition(settings):
            return None
        given = self.base.study.grouping or Grouping()
        if column.grouping is None:
            return given
        return replace(given, mode=column.grouping, partition=column.partition)


def plan_comparison(
    name_or_path: str,
    overrides: Iterable[str] = (),
    *,
    methods: Sequence[str] = (),
    shots: Sequence[int] = (),
    seeds: Sequence[int] = (),
    model: str | None = None,
    tune: int = 0,
) -> ComparePlan:
    """A comparison on the dataset of a study.

    Args:
        name_or_path: a packaged study, a study file, or the name of a registered dataset.
        overrides: ``key=value`` for any key of the study.
        methods: columns, see `choose_columns`; none: Tables 1 and 2.
        shots, seeds: in place of the study's splits and seeds.
        model: of the backbone, in place of the study's.
        tune: learning rates to try for every column; 0 for the shared recipe alone.

    Raises:
        InputError: naming file, key and fix.
    """
    source = _source(name_or_path)
    source = override(source, overrides)
    data = dict(source.data)
    data["space"] = []
    data["search"] = {}
    if shots:
        data["splits"] = [{"shots": number} for number in shots]
    if seeds:
        data["seeds"] = list(seeds)
    if model:
        data["backbone"] = {**(data.get("backbone") or {}), "model": model}
    suffix = f"-{content_key(model)[:6]}" if model else ""
    data["name"] = f"compare-{data.get('name', name_or_path)}{suffix}"
    source = replace(source, data=data)
    study = build_study(source)
    try:
        if tune and study.protocol == "paper":
            raise StudyError(
                "protocol paper has no validation images to choose a learning rate by",
                where="--tune",
                fix="leave --tune out, or use protocol=search",
            )
        if tune == 1:
            raise StudyError(
                "one rate leaves nothing to choose", where="--tune", fix="use 2 or more, or leave it out"
            )
        base = plan_study(study)
        tasks = tuple(task.name for task in base.data.tasks)
        columns = choose_columns(methods or ("table",), tasks)
        plan = ComparePlan(base, columns, rates(tune, study.compare.lr_low, study.compare.lr_high))
        assert plan.points, "every point is checked"
    except InputError as error:
        raise source.located(error) from None
    return plan


def rates(count: int, low: float, high: float) -> tuple[float, ...]:
    """``count`` learning rates from ``low`` to ``high``, evenly spaced in their logarithm; none for 0."""
    if count < 2:
        return ()
    step = math.log(high / low) / (count - 1)
    return tuple(_rounded(low * math.exp(i * step)) for i in range(count))


def _rounded(rate: float) -> float:
    """Six digits: rates that people write stay what they wrote."""
    return float(f"{rate:.6g}")


def _source(name_or_path: str) -> Source:
    from mmap_model.data.registry import dataset_names
    from mmap_model.data.sources import get_layout
    from mmap_model.references import parse
    from orchestrator.study import packaged_studies

    if name_or_path in packaged_studies():
        return read_source(name_or_path)
    if parse(name_or_path) is not None:
        layout = get_layout(name_or_path, "STUDY")
        return Source(name_or_path, {"name": layout.name, "dataset": {"name": name_or_path}})
    if name_or_path in dataset_names():
        return Source(name_or_path, {"name": name_or_path, "dataset": {"name": name_or_path}})
    return read_source(name_or_path)


def _length(row: PlannedRow) -> tuple[bool, bool, int]:
    """Sorts long rows first: a short one at the end leaves no slot idle for long."""
    method = get_method(row.point.method)
    single = getattr(row.point.settings, "regime", None) == "single"
    return method.fuses, not single, -(row.split.shots or 0)
