"""The interface of a search space, what limits it, and the registry."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from mmap_model import references
from mmap_model.architecture import Architecture
from mmap_model.errors import nearest
from mmap_model.plain import from_plain
from search_spaces.errors import SpaceError
from search_spaces.suggesters import Suggester

Draft = dict[str, Any]
"""A point in the making: ``{"method", "settings": {…}, "recipe": {…}, "grouping": {…} or None}``."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What every point must fit.

    Attributes:
        architecture: of the backbone; gives the widths that shapes must divide.
        tasks: N.
        groups: the largest number of groups that any point of the space can come to.
        max_params: trained parameters of one replicate at that many groups, or None.
        classes: class names of each task, where they are known.
        images: labelled images of each task at the largest split, where they are known.
    """

    architecture: Architecture
    tasks: int
    groups: int
    max_params: int | None = None
    classes: tuple[tuple[str, ...], ...] | None = None
    images: tuple[int, ...] | None = None


class Space(ABC):
    """Part of a search space: one or several parameters that belong together.

    A subclass is a frozen, keyword-only dataclass; its fields are the options that a study file may give.

    Attributes:
        independent: its choices depend on the fixed part of the study only, never on what an earlier space
            chose. Spaces that are all independent are counted one by one instead of jointly.
    """

    independent: ClassVar[bool] = False

    @abstractmethod
    def writes(self) -> tuple[str, ...]:
        """Dotted keys of the point that it sets, such as ``settings.prompt_length``."""

    @abstractmethod
    def suggest(self, trial: Suggester, draft: Draft, limits: Limits) -> None:
        """Ask ``trial`` for values and set them in ``draft``; only values that fit may be offered.

        A categorical whose choices depend on another parameter takes that condition into its name:
        ``conditional_name("source_rows", b=14)``. Name a parameter like the last part of the key it sets.
        """

    def check(self, draft: Draft, limits: Limits, where: str) -> None:  # noqa: B027
        """Raise SpaceError unless every option can be used; ``where`` is this space's key in the study."""

    def most_groups(self, draft: Draft, tasks: int) -> int | None:
        """The largest number of groups its choices lead to; None if it does not set the grouping."""
        return None


S = TypeVar("S", bound=Space)
_REGISTRY: dict[str, type[Space]] = {}


def register(name: str) -> Callable[[type[S]], type[S]]:
    """Class decorator: make a space known by ``name``. Raises SpaceError if the name is taken."""

    def add(cls: type[S]) -> type[S]:
        if name in _REGISTRY:
            raise SpaceError(f"search space {name!r} is registered twice", fix="choose another name")
        _REGISTRY[name] = cls
        return cls

    return add


def space_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    return tuple(sorted(_REGISTRY))


def get_space(name: str) -> type[Space]:
    """The registered space of that name. Raises SpaceError with the nearest known one."""
    return _find(name, "space")


def build_space(name: str, options: dict[str, Any], where: str = "space") -> Space:
    """The space called ``name`` with its options.

    Args:
        name: a registered name, ``package.module:Class``, or ``path/to/file.py:Class``.
        options: its fields; unknown keys and wrong types raise ConfigurationError.
        where: its key in the study, for messages.

    Raises:
        SpaceError: nothing of that name, or it is no Space.
    """
    return from_plain(_find(name, where), options, where)


def _find(name: str, where: str) -> type[Space]:
    reference = references.parse(name)
    if reference is None:
        if name not in _REGISTRY:
            raise SpaceError(
                f"unknown search space {name!r}",
                where=f"{where}.name",
                fix=f"{nearest(name, _REGISTRY)}; a custom one is my_module:MySpace or file.py:MySpace",
            )
        return _REGISTRY[name]
    found = references.resolve(reference, where=f"{where}.name", example="file.py:MySpace", error=SpaceError)
    if not (isinstance(found, type) and issubclass(found, Space) and dataclasses.is_dataclass(found)):
        raise SpaceError(
            f"{reference.attribute!r} of {reference.location} is not a search space",
            where=f"{where}.name",
            fix="make it a dataclass that derives from search_spaces.Space",
        )
    return found
