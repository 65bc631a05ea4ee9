"""What is trained: points, configurations, splits and cells, as frozen, strict, hashable values.

A *point* is what a search proposes: a method with its settings, a recipe and, for grouped methods, how
tasks are to be grouped. A *configuration* is a point whose grouping has been resolved to a partition. A
*cell* is one (configuration, split, seed): the unit of training, of results and of resuming. No torch here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from mmap_model.errors import ConfigurationError, nearest, require
from mmap_model.revisions import added_field, is_left_out, revisions_of

RECIPE_VERSION = 1
"""In every key, for good: what changes numbers is a `mmap_model.revisions.Revision` of certain cells."""

METRIC_VERSION = 1
"""Raised by hand whenever a metric of the same predictions would come out otherwise."""

KNOWN_FROM_DATASET = ("test_images", "large_images")
"""Fields of a cell that its dataset decides: no part of the key, and absent from records before they came."""

Partition = tuple[tuple[int, ...], ...]
"""Disjoint groups of task indices covering all tasks, each sorted, ordered by their first member."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one cell is trained (paper, Implementation Details; the lineage's defaults where it is silent).

    Attributes:
        epochs: passes over the largest task (>= 1). The schedule's length; never truncated.
        batch_size: images per task and step (>= 1).
        lr: peak learning rate (> 0).
        schedule: ``cosine`` (to zero over all epochs, stepped per epoch) or ``constant``.
        warmup_epochs: epochs at ``warmup_lr`` before the schedule (>= 0, < epochs).
        warmup_lr: learning rate of those epochs.
        momentum, weight_decay: of SGD, on all trained tensors.
        clip_norm: largest gradient norm per replicate, or None.
        loss_reduction: ``sum`` of the task losses (eq. 11) or their ``mean``.
        augment: apply the dataset's augmentation to training images.
        template: class prompt; ``{}`` is the class name.
    """

    epochs: int = 5
    batch_size: int = 16
    lr: float = 0.0035
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None
    loss_reduction: Literal["sum", "mean"] = "sum"
    augment: bool = True
    template: str = "a photo of a {}."

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "recipe.epochs", self.epochs, "use 1 or more")
        require(self.batch_size >= 1, "recipe.batch_size", self.batch_size, "use 1 or more")
        require(self.lr > 0, "recipe.lr", self.lr, "use a positive learning rate")
        require(
            0 <= self.warmup_epochs < self.epochs,
            "recipe.warmup_epochs",
            self.warmup_epochs,
            f"use 0 to {self.epochs - 1}, fewer than recipe.epochs={self.epochs}",
        )
        require(0 <= self.momentum < 1, "recipe.momentum", self.momentum, "use 0 <= momentum < 1")
        require(self.weight_decay >= 0, "recipe.weight_decay", self.weight_decay, "use 0 or more")
        require(
            self.clip_norm is None or self.clip_norm > 0,
            "recipe.clip_norm",
            self.clip_norm,
            "use null or > 0",
        )
        require("{}" in self.template, "recipe.template", self.template, "write {} where the class name goes")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The run that measures task affinity (eq. 8): one global MmAP trained on all tasks.

    Attributes:
        prompt_length, source_rows, source_cols, scale_init: shape of the global MmAP; ``same=True`` takes the
            trial's own shape and recipe instead (the literal reading of the paper).
        recipe: how it is trained.
        snapshot_every: steps between recorded gradient Gram matrices (>= 1); trials may use any multiple.
    """

    prompt_length: int = 4
    source_rows: int = 4
    source_cols: int = 32
    scale_init: float | None = None
    recipe: Recipe = Recipe()
    snapshot_every: int = 2
    same: bool = False

    def __post_init__(self) -> None:
        require(
            self.snapshot_every >= 1, "grouping.probe.snapshot_every", self.snapshot_every, "use 1 or more"
        )


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """How tasks are put into groups (paper, section on the multi-task prompt learning framework, eq. 8).

    Attributes:
        mode: ``gradient`` (from the probe), ``random`` (keyed by the train seed), ``fixed`` (``partition``),
            ``single`` (all tasks in one group).
        groups: exact number of groups, or None to let the objective decide.
        similarity: ``dot`` (eq. 8) or ``cosine``.
        space: gradients with respect to the generated ``prompts`` or to the MmAP ``parameters``.
        objective: ``tag_mean``, ``sum`` or ``sum_centered``.
        snapshot_every: steps between the snapshots that are averaged; a multiple of ``probe.snapshot_every``.
        partition: the groups of ``fixed``, as task indices.
        probe: the run that is measured.
    """

    mode: Literal["gradient", "random", "fixed", "single"] = "gradient"
    groups: int | None = None
    similarity: Literal["dot", "cosine"] = "dot"
    space: Literal["prompts", "parameters"] = "prompts"
    objective: Literal["tag_mean", "sum", "sum_centered"] = "tag_mean"
    snapshot_every: int = 10
    partition: Partition | None = None
    probe: Probe = Probe()

    def __post_init__(self) -> None:
        require(
            self.groups is None or self.groups >= 1, "grouping.groups", self.groups, "use null or 1 or more"
        )
        require(
            self.mode != "gradient"
            or (self.snapshot_every >= 1 and self.snapshot_every % self.probe.snapshot_every == 0),
            "grouping.snapshot_every",
            self.snapshot_every,
            f"use a multiple of grouping.probe.snapshot_every={self.probe.snapshot_every}",
        )
        require(
            (self.partition is not None) == (self.mode == "fixed"),
            "grouping.partition",
            self.partition,
            "give it with mode: fixed, and only then",
        )
        if self.partition is not None:
            object.__setattr__(self, "partition", canonical_partition(self.partition))


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
class Split:
    """How much of each task is labelled: ``shots`` per class, or ``percent`` of each class."""

    shots: int | None = None
    percent: float | None = None

    def __post_init__(self) -> None:
        require(
            (self.shots is None) != (self.percent is None), "split", to_plain(self), "give shots or percent"
        )
        require(self.shots is None or self.shots >= 1, "split.shots", self.shots, "use 1 or more")
        require(
            self.percent is None or 0 < self.percent < 100,
            "split.percent",
            self.percent,
            "use more than 0 and less than 100",
        )

    @property
    def label(self) -> str:
        return f"{self.shots}-shot" if self.shots is not None else f"{self.percent:g}%"


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """``draw`` fixes the labelled sample, ``train`` initialisation, order and augmentation."""

    draw: int
    train: int

    @classmethod
    def both(cls, seed: int) -> Seeds:
        return cls(draw=seed, train=seed)

    @property
    def label(self) -> str:
        return str(self.draw) if self.draw == self.train else f"{self.draw}/{self.train}"


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
    protocol: Literal["search", "paper"] = "search"
    largest_shots: int | None = None
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    dataset: str
    backbone: str
    snapshot_every: int | None = None
    largest_percent: float | None = added_field(None)
    test_images: Literal["drawn", "given"] = added_field("drawn")
    large_images: bool = added_field(False)

    def __post_init__(self) -> None:
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

        A method of one's own counts by name and version, wherever its file is. Added fields at their defaults
        and revisions that do not concern the cell are not part of it (`mmap_model.revisions`).
        """
        from mmap_model.methods import method_identity

        normalised = Cell.from_dict(self.to_dict()).to_dict()
        normalised["configuration"]["method"] = method_identity(self.configuration.method)
        for known in KNOWN_FROM_DATASET:
            normalised.pop(known, None)
        identity = {"recipe_version": RECIPE_VERSION, "cell": normalised}
        if revisions := revisions_of(self):
            identity["revisions"] = revisions
        return content_key(identity)


def canonical_partition(groups: typing.Iterable[typing.Iterable[int]]) -> Partition:
    """Sort each group and order groups by first member.

    Raises ConfigurationError unless every task index from 0 on stands in exactly one group.
    """
    result = tuple(sorted(tuple(sorted(int(t) for t in g)) for g in groups))
    members = sorted(t for g in result for t in g)
    if not members or members != list(range(len(members))) or any(not g for g in result):
        raise ConfigurationError(
            f"{[list(g) for g in result]} is not a partition of tasks 0 to {max(members, default=0)}",
            where="grouping.partition",
            fix="name every task index exactly once",
        )
    return result


def content_key(value: Any) -> str:
    """The first 32 hexadecimal digits of the SHA-256 of the canonical JSON of ``value``."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def to_plain(value: Any) -> Any:
    """Dataclasses to dictionaries and tuples to lists, recursively: JSON-ready.

    Added fields at their defaults are left out, so that what is hashed or compared stays as it was.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(inner)
            for f in dataclasses.fields(value)
            if not is_left_out(f, inner := getattr(value, f.name))
        }
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def from_plain(cls: type[T], data: dict[str, Any], where: str, **given: Any) -> T:
    """Build dataclass ``cls`` from a dictionary; unknown keys and wrong types raise ConfigurationError.

    ``given`` are fields already built. ``where`` prefixes keys in messages, e.g. ``study.yaml: recipe``.
    """
    if not isinstance(data, dict):
        raise ConfigurationError(
            f"expected a mapping, got {data!r}", where=where, fix="write key: value pairs"
        )
    hints = _type_hints(cls)  # type: ignore[arg-type]
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = dict(given)
    for key, value in data.items():
        if key not in fields:
            raise ConfigurationError(f"unknown key {key!r}", where=f"{where}.{key}", fix=nearest(key, fields))
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    missing = [
        n
        for n, f in fields.items()
        if n not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigurationError(f"missing key {missing[0]!r}", where=where, fix=f"add {missing[0]}: …")
    try:
        return cls(**values)
    except ConfigurationError as error:
        # A dataclass names its keys from where it usually lives; a recipe may also be that of a probe.
        _, dot, key = (error.where or "").rpartition(".")
        raise ConfigurationError(
            error.problem, where=f"{where}{dot}{key * bool(dot)}", fix=error.fix
        ) from None


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _with_settings(cls: type[T], data: dict[str, Any], where: str) -> T:
    from mmap_model.methods import get_method

    data = dict(data)
    if "method" not in data:
        raise ConfigurationError("missing key 'method'", where=where, fix="add method: mmap")
    method = get_method(data["method"], where=f"{where}.method")
    settings = data.pop("settings", {})
    if isinstance(settings, dict):
        settings = from_plain(method.Settings, settings, f"{where}.settings")
    return from_plain(cls, data, where, settings=settings)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            known = ", ".join(map(str, choices))
            raise ConfigurationError(
                f"{value!r} is not one of {known}", where=where, fix=nearest(str(value), map(str, choices))
            )
        return value
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_plain(hint, value, where)  # type: ignore[arg-type]
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigurationError(
                f"expected a mapping, got {value!r}", where=where, fix="write key: value pairs"
            )
        key_hint, value_hint = typing.get_args(hint)
        return {
            _convert(key_hint, k, where): _convert(value_hint, v, f"{where}.{k}") for k, v in value.items()
        }
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"expected a list, got {value!r}", where=where, fix="write [a, b]")
        return tuple(_convert(typing.get_args(hint)[0], v, where) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigurationError(
            f"expected {hint.__name__}, got {value!r}",
            where=where,
            fix=f"write a value of type {hint.__name__}",
        )
    return value
