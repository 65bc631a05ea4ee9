"""mmap_model's frozen dataclasses as fields of a study, validated by their own rules and defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mmap_model.backbone_spec import BackboneSpec
from mmap_model.configuration import Grouping, Recipe, Seeds, Split
from mmap_model.data.dataset import DatasetSpec
from mmap_model.execution import Execution
from mmap_model.methods import get_method
from mmap_model.plain import from_plain
from orchestrator.study.errors import StudyError
from orchestrator.study.numbers import read_numbers

LARGEST_SEED = 2**63 - 1
"""What records and random generators hold."""


@dataclass(frozen=True)
class Plain:
    """Annotation: build the dataclass from a mapping through ``from_plain``, errors keyed from ``where``."""

    where: str

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The inner schema only describes the field (JSON schema); mmap_model's own rules validate.
        return core_schema.no_info_wrap_validator_function(self._validator(source), handler(source))

    def _validator(self, source: type) -> Callable[[Any, Any], Any]:
        def validate(value: Any, _: Any) -> Any:
            return (
                value
                if isinstance(value, source)
                else from_plain(cast("type[Any]", source), value, self.where)
            )

        return validate


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _to_splits(value: Any) -> Any:
    value = _numbers(value, "splits")
    if not isinstance(value, list | tuple):
        return value
    return tuple(_parse_split(v, f"splits.{i}") for i, v in enumerate(value))


def _parse_split(value: Any, where: str) -> Split:
    """One split; a number is its shots."""
    if isinstance(value, Split):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"shots": value}
    return from_plain(Split, value, where)


def _numbers(value: Any, where: str) -> Any:
    """The numbers of ``1,2,3``, ``1-3`` or ``1``; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return read_numbers(value, where) if isinstance(value, str) else value


def _to_seeds(value: Any) -> Any:
    value = _numbers(value, "seeds")
    if not isinstance(value, list | tuple):
        return value
    return tuple(parse_seed(v, f"seeds.{i}") for i, v in enumerate(value))


def parse_seed(value: Any, where: str) -> Seeds:
    """One seed: a number sets both the draw and the training; ``{draw, train}`` sets them apart."""
    if isinstance(value, Seeds):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        seeds = Seeds.both(value)
    elif isinstance(value, dict):
        seeds = from_plain(Seeds, value, where)
    else:
        raise StudyError(f"{value!r} is not a seed", where=where, fix="use a number, or {draw: 1, train: 2}")
    if not 0 <= min(seeds.draw, seeds.train) <= max(seeds.draw, seeds.train) <= LARGEST_SEED:
        raise StudyError(
            f"{value!r} is not a seed", where=where, fix=f"use 0 or more, {LARGEST_SEED} at most"
        )
    return seeds


PUBLISHED = "published"


def with_published(value: Any, method: str, where: str = "recipe") -> Any:
    """A recipe's keys, those of the method's authors for ``published`` and under ``{base: published, …}``.

    Raises:
        StudyError: the method has no published recipe, or the base has another name.
    """
    if value != PUBLISHED and not (isinstance(value, dict) and "base" in value):
        return value
    own = {} if value == PUBLISHED else dict(value)
    base = own.pop("base", PUBLISHED)
    if base != PUBLISHED:
        raise StudyError(
            f"unknown recipe {base!r}", where=f"{where}.base", fix=f"use {PUBLISHED}, or remove it"
        )
    published = get_method(method).published
    if published is None:
        raise StudyError(
            f"method {method!r} has no published recipe but the default one",
            where=where,
            fix="remove it, or write the keys that differ",
        )
    return {**published, **own}


ToTuple = BeforeValidator(_to_tuple)
DatasetField = Annotated[DatasetSpec, Plain("dataset")]
BackboneField = Annotated[BackboneSpec, Plain("backbone")]
ComputeField = Annotated[Execution, Plain("compute")]
RecipeField = Annotated[Recipe, Plain("recipe")]
GroupingField = Annotated[Grouping, Plain("grouping")]
SplitsField = Annotated[tuple[Split, ...], BeforeValidator(_to_splits)]
SeedsField = Annotated[tuple[Seeds, ...], BeforeValidator(_to_seeds)]
