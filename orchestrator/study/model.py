"""The study: one file, validated strictly. Rules that join several keys stand beside them."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from mmap_model.backbone_spec import BackboneSpec
from mmap_model.cells import Point
from mmap_model.configuration import Grouping, Protocol, Recipe, Seeds, Split, has_validation
from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.draws import VALIDATION_SHOTS
from mmap_model.execution import Execution
from mmap_model.methods import get_method, method_names
from mmap_model.paths import expanded
from mmap_model.plain import from_plain, to_plain
from orchestrator.study.errors import StudyError
from orchestrator.study.fields import (
    BackboneField,
    ComputeField,
    DatasetField,
    GroupingField,
    RecipeField,
    SeedsField,
    SplitsField,
    ToTuple,
    with_published,
)
from orchestrator.study.notify import Notify
from orchestrator.study.scheduler import Scheduler
from orchestrator.study.search import Search
from orchestrator.study.strict import Strict
from search_spaces import Space, build_space


class SpaceItem(BaseModel):
    """One search space: its ``name`` (or ``my_module:MySpace``, ``file.py:MySpace``) and its options."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)

    name: str
    """A registered search space, or the Python path of a custom one."""

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def build(self, where: str) -> Space:
        """The space. Raises InputError for an unknown name or option."""
        return build_space(self.name, dict(self.model_extra or {}), where)


class Slots(Strict):
    """The resident workers that train."""

    count: Literal["auto"] | int = "auto"
    """Number of slots; ``auto`` takes what the machine or cluster has, nodes that join later included."""
    cpus: float = Field(default=1, gt=0)
    """Cores of one slot."""
    gpus: Literal["auto"] | float = "auto"
    """GPUs of one slot, or a fraction: 0.25 puts four on a GPU, each with a quarter of its memory.
    ``auto`` is one where there are GPUs, else none."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of one slot's arithmetic; null: its cores."""
    cell_timeout_s: float | None = Field(default=1800, gt=0)
    """Seconds without a step or an evaluated batch after which a cell hangs: it has failed, and its worker is
    started again. Generous, because a first epoch may decode images for long; null: wait for ever. A worker
    that takes as long to load dataset and backbone, ten minutes at least, is started again as well."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.count != "auto" and self.count < 1:
            raise StudyError(
                f"{self.count} is not a number of slots", where="slots.count", fix="use auto, or 1 or more"
            )
        if self.gpus != "auto" and (self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus))):
            raise StudyError(
                f"{self.gpus} GPUs cannot be given to a slot",
                where="slots.gpus",
                fix="use auto, 0, a fraction such as 0.5, or a whole number",
            )
        return self


SQLITE = "sqlite:///"
DEFAULT_URI = f"{SQLITE}mlflow.db"


class Tracking(Strict):
    """Where runs are shown."""

    added = frozenset({"backend"})

    uri: str | None = None
    """MLflow tracking URI; null: $MLFLOW_TRACKING_URI, else ``sqlite:///mlflow.db``."""
    backend: str | None = None
    """A custom tracker, which serves the scheme of ``uri``: ``file.py:MyTracker``,
    ``my_module:MyTracker``."""

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.backend is not None and self.uri is None:
            raise StudyError(
                f"{self.backend} is not told where to write",
                where="tracking.uri",
                fix="give a URI of a scheme that it serves",
            )
        return self

    @property
    def resolved_uri(self) -> str:
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        if not uri.startswith(f"{SQLITE}~"):
            return uri
        return f"{SQLITE}{quote(str(expanded(unquote(uri.removeprefix(SQLITE)))))}"


class ColumnOptions(Strict):
    """What one method of a comparison trains with, where it differs from the defaults."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """Of the method, e.g. ``prompt_length`` where the paper's does not fit the backbone."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``recipe`` that differ, e.g. ``lr``; or ``{base: published, …}``: the recipe of the method's
    authors, with the study's texts and augmentation, and what differs from it."""


class Compare(Strict):
    """How ``orchestrator compare`` runs on this dataset. ``mmap`` takes the study's own settings."""

    added = frozenset({"most_rates"})

    lr_low: float = Field(default=3.5e-5, gt=0)
    """Lowest learning rate that ``--tune`` tries, for every column."""
    lr_high: float = Field(default=0.35, gt=0)
    """Highest learning rate that ``--tune`` tries, for every column."""
    most_rates: int = Field(default=7, ge=2)
    """With ``--rates own``: how many are tried for a column at most, while the best lies at an end."""
    methods: dict[str, ColumnOptions] = Field(default_factory=dict)
    """By method: settings and recipe in place of the defaults."""

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.lr_low >= self.lr_high:
            raise StudyError(
                f"{self.lr_low:g} is not below lr_high={self.lr_high:g}",
                where="compare.lr_low",
                fix="use a lower one",
            )
        for name in self.methods:
            get_method(name, where=f"compare.methods.{name}")
        return self


NAME_LENGTH = 100
"""Characters that the name of a study may have."""


class Study(Strict):
    """A study: what is searched, on which data, how it is measured, and where it runs."""

    added = frozenset({"notify"})

    name: str = Field(pattern=rf"^[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_LENGTH - 1}}}$")
    """Names the study everywhere: its records, its MLflow experiment."""
    description: str = ""
    """For people: the command, the expected time, the measured result."""

    dataset: DatasetField = DatasetSpec()
    """The tasks and their images."""
    backbone: BackboneField = BackboneSpec()
    """The frozen CLIP."""
    method: str = "mmap"
    """A registered tuning method, or your own: ``file.py:MyMethod``, ``my_module:MyMethod``."""
    method_version: int | None = Field(default=None, validate_default=True)
    """Of a custom method, its version when the study began; filled in."""
    settings: Any = Field(default_factory=dict, validate_default=True)
    """The method's own settings that are not searched."""
    recipe: RecipeField = Recipe()
    """How a cell is trained; ``published``, alone or as ``base``, takes what the method's authors give."""
    grouping: GroupingField | None = Field(default=None, validate_default=True)
    """How tasks are put into groups, for methods that group."""
    space: Annotated[tuple[SpaceItem, ...], ToTuple] = ()
    """The search spaces, composed in this order; none: a single configuration."""

    protocol: Protocol = "search"
    """``search`` keeps validation images apart; ``clap`` trains and tests on the same images without any to
    validate, so all settings are fixed beforehand; ``paper`` trains on k shots and tests on all the rest."""
    splits: SplitsField = (Split(shots=6),)
    """How much is labelled; the objective is the mean over them. ``1,6`` and ``[1, 6]`` are shots."""
    largest_shots: int | None = None
    """Shots before the validation images begin; null: the most of ``splits``."""
    seeds: SeedsField = (Seeds.both(1), Seeds.both(2), Seeds.both(3))
    """Replicates of every configuration and split: ``1,2,3``, ``1-3`` or a list."""
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    """Of the backbone; prompts and losses are fp32 also under bf16."""
    fuse: Literal["auto", "on", "off"] = "auto"
    """Train the seeds of a split as one batch where the method allows it and epochs are equally long."""

    compute: ComputeField = Execution()
    """How cells are computed; their numbers do not depend on it beyond the order of sums. May be changed."""

    search: Search = Search()
    compare: Compare = Compare()
    slots: Slots = Slots()
    finalists: int = Field(default=3, ge=0)
    """How many of the best by validation are scored on test at the end."""
    storage: str = Field(default="runs", min_length=1)
    """Folder, or s3:// and the like, of all records."""
    tracking: Tracking = Tracking()
    notify: Notify | None = None
    """Where to send news of the study; null: nowhere."""

    @field_validator("method")
    @classmethod
    def _known_method(cls, value: str) -> str:
        get_method(value)
        return value

    @field_validator("method_version")
    @classmethod
    def _version_of_own_method(cls, value: int | None, info: ValidationInfo) -> int | None:
        name = info.data.get("method", "mmap")
        return get_method(name).version if value is None and name not in method_names() else value

    @field_validator("settings", mode="before")
    @classmethod
    def _own_settings(cls, value: Any, info: ValidationInfo) -> Any:
        if "method" not in info.data:
            return value
        kind = get_method(info.data["method"]).Settings
        return value if isinstance(value, kind) else from_plain(kind, value, "settings")

    @field_validator("recipe", mode="before")
    @classmethod
    def _published_recipe(cls, value: Any, info: ValidationInfo) -> Any:
        return with_published(value, info.data.get("method", "mmap"))

    @field_validator("grouping", mode="after")
    @classmethod
    def _grouping_of_method(cls, value: Grouping | None, info: ValidationInfo) -> Grouping | None:
        method = get_method(info.data.get("method", "mmap"))
        settings = info.data.get("settings")
        grouped = method.grouped if settings is None else method.needs_partition(settings)
        if value is not None and not grouped:
            raise StudyError(
                f"method {method.name!r} groups no tasks",
                where="grouping",
                fix="remove grouping, or set settings.regime=grouped if the method has that regime",
            )
        return Grouping() if value is None and grouped else value

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._check_splits()
        self._check_seeds()
        written = [key for space in self.spaces() for key in space.writes()]
        scheduler = self.search.scheduler
        if scheduler.name != "none" and "recipe.epochs" in written:
            raise StudyError(
                f"{scheduler.name} compares trials at equal epochs, so recipe.epochs cannot be searched",
                where="search.scheduler",
                fix="use scheduler: none, or fix recipe.epochs",
            )
        if scheduler.options.get("grace_period", 1) > self.recipe.epochs:
            raise StudyError(
                f"with {self.recipe.epochs} epochs no trial reaches that",
                where="search.scheduler.grace_period",
                fix=f"use {self.recipe.epochs} or less",
            )
        if scheduler.name == "seeds" and len(self.seeds) <= scheduler.options.get("first", 1):
            raise StudyError(
                f"of {len(self.seeds)} seed{'s' * (len(self.seeds) != 1)} none is left for trials that go on",
                where="search.scheduler",
                fix="use more seeds, or asha",
            )
        if scheduler.name not in ("none", "seeds") and self.compute.evaluate == "last":
            raise StudyError(
                f"{scheduler.name} stops trials by what they reach before their last epoch",
                where="compute.evaluate",
                fix="use rungs, or search.scheduler: none",
            )
        if not has_validation(self.protocol) and not self.search.aim.is_plain:
            raise StudyError(
                f"protocol {self.protocol} has no validation images to measure objectives or constraints on",
                where="protocol",
                fix="use protocol: search, or remove search.objectives and search.constraints",
            )
        if not has_validation(self.protocol) and written:
            raise StudyError(
                f"protocol {self.protocol} has no validation images to search by",
                where="protocol",
                fix="use a fixed configuration (space: []); or search with protocol: search, and use "
                f"{self.protocol} with what that found",
            )
        return self

    def _check_splits(self) -> None:
        if not self.splits:
            raise StudyError("no split is given", where="splits", fix="write splits: [{shots: 6}]")
        if len(set(self.splits)) < len(self.splits):
            raise StudyError("a split is given twice", where="splits", fix="keep each split once")
        most = max((s.shots for s in self.splits if s.shots is not None), default=None)
        if self.largest_shots is not None and most is not None and self.largest_shots < most:
            raise StudyError(
                f"{self.largest_shots} is less than the {most} shots of splits",
                where="largest_shots",
                fix=f"use {most} or more, or null",
            )

    def _check_seeds(self) -> None:
        if not self.seeds:
            raise StudyError("no seed is given", where="seeds", fix="write seeds: [1, 2, 3]")
        repeated = [s.label for s in self.seeds if self.seeds.count(s) > 1]
        if repeated:
            raise StudyError(f"seed {repeated[0]} is given twice", where="seeds", fix="keep each seed once")

    def spaces(self) -> tuple[Space, ...]:
        """The search spaces with their options."""
        return tuple(item.build(f"space.{i}") for i, item in enumerate(self.space))

    @property
    def point(self) -> Point:
        """The fixed part, from which searched points start."""
        return Point(method=self.method, settings=self.settings, recipe=self.recipe, grouping=self.grouping)

    @property
    def shots_before_validation(self) -> int | None:
        """``largest_shots``, or the most shots of ``splits``; None if all splits are percentages."""
        if self.largest_shots is not None:
            return self.largest_shots
        return max((s.shots for s in self.splits if s.shots is not None), default=None)

    @property
    def percent_before_validation(self) -> float | None:
        """The largest percentage of ``splits``; None if there is none, or where it decides no draw."""
        if self.protocol == "paper" or self.dataset.lists is not None:
            return None
        return max((s.percent for s in self.splits if s.percent is not None), default=None)

    def label_budget(self) -> dict[str, tuple[int, int]]:
        """Labelled images per class and task by split: (training, validation); see ``mmap_model.data.draws``.

        Scarce classes have fewer. Splits in per cent are left out: they take a share of each class.
        """
        return {
            split.label: (split.shots, min(split.shots, VALIDATION_SHOTS) * has_validation(self.protocol))
            for split in self.splits
            if split.shots is not None
        }

    def to_plain(self) -> dict[str, Any]:
        """Every key with its value, JSON-ready; ``Study.model_validate`` reads it back."""
        plain = _plain(self)
        assert isinstance(plain, dict), "a study is a mapping"
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Scheduler) and not value.options:
        return value.name
    if isinstance(value, SpaceItem | Scheduler):
        return {"name": value.name, **_plain(value.model_extra or {})}
    if isinstance(value, Strict):
        fields = {name: (getattr(value, name), field) for name, field in type(value).model_fields.items()}
        return {
            name: _plain(inner)
            for name, (inner, field) in fields.items()
            if name not in value.added or inner != field.default
        }
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return to_plain(value)
