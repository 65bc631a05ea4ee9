"""What is trained: points, configurations and cells, as frozen, strict, hashable values.

A *point* is what a search proposes: a method with its settings, a recipe and, for grouped methods, how
tasks are to be grouped. A *configuration* is a point whose grouping has been resolved to a partition. A
*cell* is one (configuration, split, seed): the unit of training, of results and of resuming. No torch here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mmap_model.configuration import Grouping, Partition, Protocol, Recipe, Seeds, Split
from mmap_model.errors import ConfigurationError, require
from mmap_model.methods import get_method, method_identity
from mmap_model.plain import content_key, from_plain, to_plain
from mmap_model.revisions import added_field, revisions_of

T = TypeVar("T")

RECIPE_VERSION = 1
"""In every key, for good: what changes numbers is a `mmap_model.revisions.Revision` of certain cells."""


METRIC_VERSION = 1
"""Raised by hand whenever a metric of the same predictions would come out otherwise."""


KNOWN_FROM_DATASET = ("test_images", "large_images")
"""Fields of a cell that its dataset decides: no part of the key, and absent from records before they came."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a search space. ``settings`` are the method's own (its ``Settings`` dataclass)."""

    method: str
    settings: Any
    recipe: Recipe = Recipe()
    grouping: Grouping | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "point") -> Point:
        return _with_settings(cls, data, where)


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A point with its grouping resolved: everything that decides what is trained, except data and seed."""

    method: str
    settings: Any
    recipe: Recipe = Recipe()
    partition: Partition | None = None

    def to_dict(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "configuration") -> Configuration:
        return _with_settings(cls, data, where)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One (configuration, split, seed) on one dataset and backbone.

    ``kind`` is ``train``, ``probe`` (a one-group MmAP, measured every ``snapshot_every`` steps) or
    ``untrained`` (the freshly initialised model, before any step: the zero-step row).
    ``dataset`` is the manifest hash, ``backbone`` the fingerprint.

    ``largest_shots`` and ``largest_percent`` are the most that the splits of the study take of a class; the
    latter is None where it changes nothing: under ``paper``, and for the split that takes it. ``test_images``
    says whether the dataset's test images are drawn, or given by published or fixed lists; ``large_images``,
    whether it has images with a side of 4 times the backbone's image size or more. Neither is part of the
    key, because what the key holds decides them; they choose which revisions apply.
    """

    kind: Literal["train", "probe", "untrained"] = "train"
    configuration: Configuration
    split: Split
    seeds: Seeds
    protocol: Protocol = "search"
    largest_shots: int | None = None
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    dataset: str
    backbone: str
    snapshot_every: int | None = None
    largest_percent: float | None = added_field(None)
    test_images: Literal["drawn", "given"] = added_field("drawn")
    large_images: bool = added_field(False)

    def __post_init__(self) -> None:
        check_recipe(self.configuration.method, self.configuration.recipe, self.split)
        if self.protocol == "paper" or self.largest_percent == self.split.percent:
            object.__setattr__(self, "largest_percent", None)
        if self.protocol == "paper":
            object.__setattr__(self, "test_images", "drawn")

    def to_dict(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Cell:
        data = dict(data)
        configuration = Configuration.from_dict(data.pop("configuration"))
        return from_plain(cls, data, "cell", configuration=configuration)

    @property
    def key(self) -> str:
        """Content address: what decides the numbers, and nothing else (32 hexadecimal digits).

        A custom method counts by name and version, wherever its file is. Added fields at their defaults
        and revisions that do not concern the cell are not part of it (`mmap_model.revisions`).
        """
        normalised = Cell.from_dict(self.to_dict()).to_dict()
        normalised["configuration"]["method"] = method_identity(self.configuration.method)
        for known in KNOWN_FROM_DATASET:
            normalised.pop(known, None)
        identity = {"recipe_version": RECIPE_VERSION, "cell": normalised}
        if revisions := revisions_of(self):
            identity["revisions"] = revisions
        return content_key(identity)


def check_recipe(name: str, recipe: Recipe, split: Split) -> None:
    """Refuse a recipe that says nothing of a split, or does not go with a method.

    Raises:
        ConfigurationError: naming the key under ``recipe``.
    """
    method = get_method(name)
    recipe.for_split(split)
    averaged = "recipe.templates" if recipe.templates else "recipe.task_templates"
    require(
        method.takes_templates or not (recipe.templates or recipe.task_templates),
        averaged,
        recipe.templates or [given.task for given in recipe.task_templates],
        f"leave it out: {method.name} tunes the texts of classes, and has one for each",
    )
    require(
        recipe.epochs >= method.least_epochs,
        "recipe.epochs",
        recipe.epochs,
        f"use {method.least_epochs} or more: {method.name} trains in stages",
    )


def _with_settings(cls: type[T], data: dict[str, Any], where: str) -> T:
    data = dict(data)
    if "method" not in data:
        raise ConfigurationError("missing key 'method'", where=where, fix="add method: mmap")
    method = get_method(data["method"], where=f"{where}.method")
    settings = data.pop("settings", {})
    if isinstance(settings, dict):
        settings = from_plain(method.Settings, settings, f"{where}.settings")
    return from_plain(cls, data, where, settings=settings)
