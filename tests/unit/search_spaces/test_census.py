"""Which parameters of a space a sampler may not cope with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mmap_model.architecture import read_architecture
from mmap_model.cells import Point
from mmap_model.configuration import Grouping, Recipe
from mmap_model.methods.mmap import MmapSettings
from search_spaces import Asked, SearchSpace, build_space

SHAPE = ("prompt_length", "source_rows", "source_cols")


def asked(*spaces: Mapping[str, Any], max_params: int | None = None) -> Asked:
    built = [build_space(each["name"], {k: v for k, v in each.items() if k != "name"}) for each in spaces]
    fixed = Point(
        method="mmap",
        settings=MmapSettings(prompt_length=2, source_rows=2, source_cols=4),
        recipe=Recipe(),
        grouping=Grouping(),
    )
    architecture = read_architecture("symbols")
    return SearchSpace(built, fixed, architecture=architecture, tasks=4, max_params=max_params).asked()


@pytest.mark.parametrize(
    ("space", "categorical", "conditional"),
    [
        ({"name": "learning_rate"}, (), ()),
        ({"name": "learning_rate", "choices": [0.01, 0.1]}, ("lr",), ()),
        ({"name": "scale_init"}, ("scale_init",), ()),
        ({"name": "scale_init", "choices": [0.02]}, (), ()),
        ({"name": "schedule"}, ("schedule",), ()),
        ({"name": "choice", "key": "recipe.momentum", "choices": [0.0, 0.9]}, ("momentum",), ()),
        ({"name": "mmap_shape", "prompt_length": [2, 4]}, SHAPE, ("source_rows",)),
        ({"name": "mmap_shape", "prompt_length": [4]}, SHAPE[1:], ()),
        (
            {"name": "mmap_shape", "prompt_length": [2, 4], "source_rows": [2], "source_cols": [4]},
            ("prompt_length",),
            (),
        ),
        ({"name": "grouping"}, ("similarity",), ()),
        (
            {"name": "grouping", "objective": ["tag_mean", "sum"], "groups": [1, 2, 3], "similarity": None},
            ("objective", "groups"),
            ("groups",),
        ),
    ],
)
def test_packaged_spaces_say_what_is_a_list_and_what_depends_on_others(
    space: Mapping[str, Any], categorical: Sequence[str], conditional: Sequence[str]
) -> None:
    assert asked(space) == Asked(tuple(categorical), tuple(conditional))


def test_a_budget_makes_columns_depend_on_the_shape() -> None:
    found = asked({"name": "mmap_shape", "prompt_length": [4]}, {"name": "learning_rate"}, max_params=3000)
    assert "source_cols" in found.conditional and "lr" not in found.categorical
