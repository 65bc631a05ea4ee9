"""What a comparison will train, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from mmap_model.cells import Configuration, Point, check_recipe
from mmap_model.class_texts import check_class_texts
from mmap_model.configuration import Grouping, Recipe, Seeds, Split, has_validation
from mmap_model.errors import InputError, nearest
from mmap_model.methods import ProblemSize, get_method
from mmap_model.methods.registry import method_identity
from mmap_model.plain import content_key, to_plain
from mmap_model.revisions import revisions_of
from orchestrator.compare import recipes as of_methods
from orchestrator.compare import spacing
from orchestrator.compare.columns import ColumnSpec, resolve_settings
from orchestrator.compare.comparison import Around, Column
from orchestrator.compare.comparison import RecipeChoice as RecipeName
from orchestrator.compare.sets import GROUPED, NEWER, choose_columns
from orchestrator.study import COMPARISON, StudyPlan, plan_study
from orchestrator.study.errors import StudyError
from orchestrator.study.load import build_study, read_source
from orchestrator.study.model import ColumnOptions, Study
from orchestrator.study.source import StudySource, override
from orchestrator.work.item import WorkItem

RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)

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
        rates: learning rates of the tuned recipe, ascending, the same for every column; empty if none is
            tuned, or with ``around``.
        around: how each column's rates are searched around its own.
        recipes: that are trained as they are, without a search: ``shared``, ``published``.
    """

    base: StudyPlan
    columns: tuple[ColumnSpec, ...]
    rates: tuple[float, ...] = ()
    around: Around | None = None
    recipes: tuple[RecipeName, ...] = ("shared",)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.base.data.tasks)

    def recipe_of(self, row: PlannedRow) -> str:
        """What a row is trained by: ``shared``, ``published`` or ``tuned``, the first that it is at its rate.

        A hash of what is trained for a row that is none of them.
        """
        rate = row.point.recipe.lr
        for recipe in RECIPES:
            point = self._points_by(recipe)[row.column]
            if replace(point, recipe=of_methods.at_rate(point.recipe, rate)) == row.point:
                return recipe
        return content_key(row.point.to_dict())[:8]

    def _points_by(self, recipe: RecipeName) -> Mapping[str, Point]:
        if recipe == "published":
            return self.published_points
        return self.searched_points if recipe == "tuned" else self.points

    @cached_property
    def points(self) -> Mapping[str, Point]:
        """By column, with the shared recipe."""
        return {column.name: self._point(column) for column in self.columns}

    @cached_property
    def published_points(self) -> Mapping[str, Point]:
        """By column, with the recipe of the method's authors."""
        return self._with_recipes(of_methods.published_recipe)

    @cached_property
    def searched_points(self) -> Mapping[str, Point]:
        """By column, what is trained at each rate that is tried."""
        return self.points if self.around is None else self._with_recipes(of_methods.searched_recipe)

    @property
    def tunes(self) -> bool:
        """Whether rates are searched."""
        return bool(self.rates) or self.around is not None

    @property
    def tuning_seeds(self) -> tuple[Seeds, ...]:
        return self.base.study.seeds[:TUNED_ON]

    def first_rates(self, column: str) -> tuple[float, ...]:
        """The rates to begin with; none where nothing is trained."""
        if not self.trains(column):
            return ()
        if self.around is None:
            return self.rates
        return spacing.centred(self.around, self.searched_points[column].recipe.lr)

    def trains(self, column: str) -> bool:
        """Whether a column trains anything."""
        return get_method(self.points[column].method).trains

    def fixed(self) -> Iterator[PlannedRow]:
        """Rows of the recipes that need no search, by split and column."""
        for split in self.base.study.splits:
            for column in self.columns:
                for recipe in self.recipes:
                    yield self.row(column.name, split, recipe)
                if not self.recipes and not self.trains(column.name):
                    yield self.row(column.name, split, "shared")

    def row(self, column: str, split: Split, recipe: RecipeName) -> PlannedRow:
        """A column on all seeds by the shared or the published recipe."""
        points = self.published_points if recipe == "published" else self.points
        return self._row(column, points[column], split, self.base.study.seeds)

    def tried(self, column: str, split: Split, rates: Iterable[float]) -> Iterator[PlannedRow]:
        """Rows of rates that are tried for a column, on the seeds that choose."""
        for rate in rates:
            yield self._row(column, self._at(column, rate), split, self.tuning_seeds)

    def chosen(self, column: str, split: Split, rate: float) -> PlannedRow:
        """The row of the rate that was chosen for a column, on all seeds."""
        return self._row(column, self._at(column, rate), split, self.base.study.seeds)

    def first_rows(self) -> list[PlannedRow]:
        """All rows that can be trained before any rate is tried, each once, the longest first."""
        rows = [*self.fixed()]
        for split in self.base.study.splits:
            for column in self.columns:
                rows += self.tried(column.name, split, self.first_rates(column.name))
        return in_order(rows)

    def work_item(self, row: PlannedRow, **fields: Any) -> WorkItem:
        """The work of a row."""
        return self.base.work_item(row.point, splits=(row.split,), seeds=row.seeds, **fields)

    def column(self, spec: ColumnSpec, parameters: int | None = None) -> Column:
        """A column for the report; ``parameters`` as counted in its cells, else for half as many groups."""
        point = self.points[spec.name]
        method = get_method(spec.method)
        if parameters is None:
            parameters = method.parameters(point.settings, self.base.architecture, self._size())
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

    def _size(self) -> ProblemSize:
        """Of the problem that is compared: with half as many groups as tasks, and the fewest shots."""
        tasks = self.base.data.tasks
        shots = min(
            (split.shots for split in self.base.study.splits if split.shots is not None), default=None
        )
        return ProblemSize(
            tasks=len(tasks),
            groups=max(1, len(tasks) // 2),
            classes=[task.classes for task in tasks],
            images=None if shots is None else [len(task.classes) * shots for task in tasks],
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
        point = self.searched_points[column]
        return replace(point, recipe=of_methods.at_rate(point.recipe, rate))

    def _with_recipes(self, recipe: Callable[[Study, str], Recipe]) -> Mapping[str, Point]:
        study = self.base.study
        found = {}
        for name, point in self.points.items():
            found[name] = replace(point, recipe=recipe(study, point.method))
            for split in study.splits:
                check_recipe(point.method, found[name].recipe, split)
        return found

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
        recipe = of_methods.shared_recipe(study, column.method)
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
    rates: Literal["same", "own"] | None = None,
    recipes: Sequence[str] = (),
) -> ComparePlan:
    """A comparison on the dataset of a study.

    Args:
        name_or_path: a packaged study, a study file, or the name of a registered dataset.
        overrides: ``key=value`` for any key of the study.
        methods: columns, see `choose_columns`; none: Tables 1 and 2.
        shots, seeds: in place of the study's splits and seeds.
        model: of the backbone, in place of the study's.
        tune: learning rates to try for every column; 0 for none.
        rates: the ``same`` for every column, or around each column's ``own`` published one; None: own ones
            with the sets ``2026`` and ``grouped``.
        recipes: to train without a search, ``shared`` and ``published``, or ``tuned`` for none of them; none
            given: the shared one.

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
    data["name"] = f"{COMPARISON}{data.get('name', name_or_path)}{suffix}"
    source = replace(source, data=data)
    study = build_study(source)
    try:
        fixed = _fixed_recipes(recipes, tune)
        _check_tuning(tune, study)
        base = plan_study(study)
        tasks = tuple(task.name for task in base.data.tasks)
        columns = choose_columns(methods or ("table",), tasks)
        options = study.compare
        if rates == "own" or (rates is None and {NEWER, GROUPED} & {*methods}):
            around = Around(first=tune, most=max(tune, options.most_rates)) if tune else None
            plan = ComparePlan(base, columns, around=around, recipes=fixed)
        else:
            same = spacing.rates(tune, options.lr_low, options.lr_high)
            plan = ComparePlan(base, columns, same, recipes=fixed)
        assert plan.points and plan.searched_points, "every point is checked"
        assert "published" not in fixed or plan.published_points, "published ones too"
    except InputError as error:
        raise source.located(error) from None
    return plan


def in_order(rows: Iterable[PlannedRow]) -> list[PlannedRow]:
    """Each row once, the longest first: a short one at the end leaves no slot idle for long."""
    return sorted({row.key: row for row in rows}.values(), key=_length)


def _fixed_recipes(names: Sequence[str], tune: int) -> tuple[RecipeName, ...]:
    """The recipes of ``--recipes`` that need no search."""
    for name in names:
        if name not in RECIPES:
            raise StudyError(f"unknown recipe {name!r}", where="--recipes", fix=nearest(name, RECIPES))
    if "tuned" in names and not tune:
        raise StudyError(
            "nothing is tuned without rates to try",
            where="--recipes",
            fix="say how many: --tune 3; or leave tuned out",
        )
    return tuple(name for name in RECIPES[:2] if name in (names or ("shared",)))


def _check_tuning(tune: int, study: Study) -> None:
    if tune and not has_validation(study.protocol):
        raise StudyError(
            f"protocol {study.protocol} has no validation images to choose a learning rate by",
            where="--tune",
            fix="leave --tune out, or use protocol=search",
        )
    if tune == 1:
        raise StudyError(
            "one rate leaves nothing to choose", where="--tune", fix="use 2 or more, or leave it out"
        )


def _source(name_or_path: str) -> StudySource:
    from mmap_model.data.registry import dataset_names
    from mmap_model.data.sources import get_layout
    from mmap_model.references import parse
    from orchestrator.study import packaged_studies

    if name_or_path in packaged_studies():
        return read_source(name_or_path)
    if parse(name_or_path) is not None:
        layout = get_layout(name_or_path, "STUDY")
        return StudySource(name_or_path, {"name": layout.name, "dataset": {"name": name_or_path}})
    if name_or_path in dataset_names():
        return StudySource(name_or_path, {"name": name_or_path, "dataset": {"name": name_or_path}})
    return read_source(name_or_path)


def _length(row: PlannedRow) -> tuple[bool, bool, int]:
    method = get_method(row.point.method)
    single = getattr(row.point.settings, "regime", None) == "single"
    return method.fuses, not single, -(row.split.shots or 0)
