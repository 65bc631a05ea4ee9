"""The interface of a tuning method, and how one registers. Does not import torch: counts must be instant.

A method is a folder: ``__init__.py`` holds its settings, checks and exact parameter count and registers it;
``module.py`` holds the torch part, imported by ``build`` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmap_model.architecture import Architecture, check_known
from mmap_model.byte_pairs import count_tokens
from mmap_model.class_texts import ClassTexts
from mmap_model.errors import BackboneError, ConfigurationError, ShapeError
from mmap_model.methods.problem import Problem, ProblemSize
from mmap_model.towers import ResNetTower

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


NewClasses = Literal["text", "tuned_text", "zero_shot", "refused"]
"""What a class named after training gets: its text feature as tuned, as all classes have it (``text``) or in
place of a trained row (``tuned_text``), that of the plain CLIP, or nothing."""
Regime = Literal["single", "multi"]
"""``single``: a copy of everything trained for each task. ``multi``: one copy that all tasks train."""
GroupedRegime = Literal["single", "multi", "grouped"]
"""Also ``grouped``: a part for each group of tasks and one for each task, which act together."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One row of the table of parameter counts.

    Attributes:
        settings: that differ from the method's defaults, and make the row what it is.
        preferred: likewise, which a comparison takes unless its study says otherwise.
        regime: as the paper's tables group methods; None where nothing is trained.
        printed: the "Parameters" row of the paper's Tables 1 and 2 (ViT-B/16, four tasks), or None.
        reading: what makes ``printed`` of the exact count.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    preferred: Mapping[str, Any] = field(default_factory=dict)
    regime: GroupedRegime | None = "multi"
    printed: str | None = None
    reading: str = ""


class Method(ABC):
    """One way of tuning CLIP on several tasks.

    Attributes:
        name: the registered name; a custom method has one too, different from all registered ones.
        label: what people call it, where that is not its name.
        version: of a custom method: raised by hand whenever training would give other numbers, as it
            stands in the keys of cells with the name. Registered ones have none: what changes
            their numbers is a ``Revision``.
        Settings: frozen, keyword-only dataclass of the method's own hyper-parameters.
        grouped: needs a partition of the tasks, whatever its settings (see ``needs_partition``).
        fits: computes something of the labelled images before training (``TunedModel.fits``).
        class_bound: has tensors with a row for every class, keyed by its name.
        fuses: replicates may be trained as one batch (the backbone stays frozen).
        least_epochs: fewest that training needs; two stages need two.
        trains: False when there is nothing to train (zero-shot).
        keeps_weights: what it trains is small and stays with every finished cell; if not, only with cells
            in training and with finalists.
        any_image_tower: nothing that is trained has a part in image embeddings, so the image tower may be of
            any kind; if not, it must be a ViT.
        takes_templates: the texts of classes are not tuned, so features of several may be averaged.
        new_classes: what a class gets that is named after training.
        published: the recipe of its authors, as the keys of `Recipe` that differ from the defaults; None:
            they gave none, or the defaults are it.
        budgets: the method's rows in the table of parameter counts.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""
    version: ClassVar[int] = 1
    Settings: ClassVar[type]
    grouped: ClassVar[bool] = False
    fits: ClassVar[bool] = False
    class_bound: ClassVar[bool] = False
    fuses: ClassVar[bool] = True
    least_epochs: ClassVar[int] = 1
    trains: ClassVar[bool] = True
    keeps_weights: ClassVar[bool] = True
    any_image_tower: ClassVar[bool] = False
    takes_templates: ClassVar[bool] = False
    new_classes: ClassVar[NewClasses] = "text"
    published: ClassVar[Mapping[str, Any] | None] = None
    budgets: ClassVar[tuple[Budget, ...]] = (Budget(),)

    def require(self, settings: Any, architecture: Architecture) -> None:
        """Raise BackboneError or ShapeError unless the method runs on the backbone, with these settings."""
        self.require_tower(architecture)
        self.check(settings, architecture)

    def require_tower(self, architecture: Architecture) -> None:
        """Raise BackboneError where the method has a part in the image tower, and that is no ViT."""
        if not self.any_image_tower and isinstance(architecture.visual, ResNetTower):
            able = ", ".join(name for name in method_names() if _REGISTRY[name].any_image_tower)
            raise BackboneError(
                f"{self.name} needs a ViT as image tower; that of {architecture.model!r} is a ModifiedResNet",
                where="method",
                fix=f"use a method that leaves the image tower as it is ({able}), or a ViT backbone",
            )

    @abstractmethod
    def check(self, settings: Any, architecture: Architecture) -> None:
        """Raise ShapeError naming key, value and valid ones unless the settings fit the backbone."""

    def fitted(self, settings: Any, architecture: Architecture) -> Any:
        """The settings with every value the nearest that the backbone takes; as they are where they fit."""
        return settings

    def texts(self, settings: Any, template: str) -> ClassTexts:
        """The texts that class names stand in, of a recipe with this template."""
        return ClassTexts(template)

    def needs_partition(self, settings: Any) -> bool:
        """Whether tasks must have been put into groups: always (``grouped``), or with ``regime: grouped``."""
        return self.grouped or getattr(settings, "regime", None) == "grouped"

    @abstractmethod
    def count(self, settings: Any, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """Exact number of trained parameters of one replicate."""

    def parameters(self, settings: Any, architecture: Architecture, size: ProblemSize) -> int:
        """Exact number of trained parameters of one replicate: ``count``, where classes have no part in it.

        Raises:
            ConfigurationError: it depends on something that ``size`` does not say.
        """
        return self.count(settings, architecture, tasks=size.tasks, groups=size.groups)

    def probed(self, settings: Any) -> Any | None:
        """The settings with one model for all tasks, which is a ``Probed``; None where there is no such."""
        return None

    @abstractmethod
    def build(self, settings: Any, backbone: Backbone, problem: Problem) -> TunedModel:
        """The trainable model of R replicates over T tasks.

        Every trained tensor has a leading replicate axis R; slice r is initialised from
        ``problem.train_seeds[r]`` alone.
        """


class ClassBoundMethod(Method):
    """A method whose count depends on the classes, or on how many images are labelled."""

    class_bound = True

    def count(self, settings: Any, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """Raise ConfigurationError: the classes are not given."""
        return self.parameters(settings, architecture, ProblemSize(tasks=tasks, groups=groups))

    @abstractmethod
    def parameters(self, settings: Any, architecture: Architecture, size: ProblemSize) -> int:
        """Exact number of trained parameters of one replicate."""


def check_range(where: str, value: float, lowest: float, highest: float | None = None) -> None:
    """Raise ShapeError for the setting ``where`` unless ``lowest <= value <= highest``."""
    if not lowest <= value < inf or (highest is not None and value > highest):
        span = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise ShapeError(f"{value!r} is not allowed", where=where, fix=f"use {span}")


def check_template(where: str, template: str) -> None:
    """Raise ShapeError unless the class name has a place in ``template``."""
    if "{}" not in template:
        raise ShapeError(
            f"{template!r} has no place for the class name", where=where, fix="write {} where it goes"
        )


def check_words(where: str, words: str, length: int, architecture: Architecture) -> None:
    """Raise ShapeError unless ``words`` have tokens for a prompt of that length, or are empty.

    A reduced CLIP must know them, or a BackboneError says so.
    """
    if not words:
        return
    check_known(architecture, [words], f"settings.{where}")
    tokens = count_tokens(words) - 2
    if tokens < length:
        raise ShapeError(
            f"{words!r} has {tokens} tokens, fewer than the prompt's {length}",
            where=where,
            fix=f"use a prompt of {tokens} or fewer, more words, or none",
        )


def nearest_divisor(wanted: int, number: int) -> int:
    """The divisor of ``number`` nearest to ``wanted``, the smaller of two."""
    return min((n for n in range(1, number + 1) if number % n == 0), key=lambda n: (abs(n - wanted), n))


def copies_of(regime: str, *, tasks: int, groups: int) -> int:
    """Copies of what one replicate trains in a regime."""
    return {"single": tasks, "multi": 1, "grouped": groups + tasks}[regime]


def rows_of(regime: str, size: ProblemSize, method: str) -> int:
    """Rows of one replicate that are keyed by class name, in a regime.

    ``single`` has each task's own, ``multi`` those of the union of all lists, ``grouped`` those of the union
    of every group's lists and each task's own.

    Raises:
        ConfigurationError: the classes are not known.
    """
    if size.classes is None:
        raise ConfigurationError(
            f"{method} trains numbers for every class",
            where="--classes",
            fix="say how many classes a task has",
        )
    own = sum(len(names) for names in size.classes)
    if regime == "single":
        return own
    if regime == "multi":
        return _union(size.classes, range(size.tasks))
    if size.partition is not None:
        return own + sum(_union(size.classes, group) for group in size.partition)
    lists = {tuple(names) for names in size.classes}
    # Groups that are not known yet: with one list for all every partition counts the same.
    most = max(map(len, lists)) if len(lists) == 1 else _union(size.classes, range(size.tasks))
    return own + size.groups * most


def _union(classes: Sequence[Sequence[str]], tasks: Iterable[int]) -> int:
    return len({name for task in tasks for name in classes[task]})


_REGISTRY: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method under its name. Raises ConfigurationError if the name is taken."""
    if method.name in _REGISTRY:
        raise ConfigurationError(f"method {method.name!r} is registered twice", fix="choose another name")
    _REGISTRY[method.name] = method
    return method


def registered(name: str) -> Method | None:
    """The method registered under that name, or None."""
    return _REGISTRY.get(name)


def method_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    return tuple(sorted(_REGISTRY))


def prompt_tokens(prompt_length: int, modules: str) -> int:
    """Tokens that one tower sees: of the group's prompt and the task's own, or only one of them."""
    return prompt_length * (2 if modules == "both" else 1)


def module_count(modules: str, *, tasks: int, groups: int) -> int:
    """Modules of one replicate: ``both`` group-shared and task-specific ones, or only one of the kinds."""
    return {"both": groups + tasks, "group": groups, "task": tasks}[modules]
