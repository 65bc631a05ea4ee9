from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmap_model.cells import Point
from mmap_model.configuration import Grouping
from mmap_model.errors import ConfigurationError, InputError
from mmap_model.methods import get_method
from mmap_model.methods.mmap import MmapSettings
from search_spaces import SpaceError, build_space

CUSTOM = """
from dataclasses import dataclass
from search_spaces import Space

@dataclass(frozen=True, kw_only=True)
class Decay(Space):
    values: tuple[float, ...] = (0.0, 5e-4)

    def writes(self):
        return ("recipe.weight_decay",)

    def suggest(self, trial, draft, limits):
        if draft["recipe"]["lr"] > 0.01:
            draft["recipe"]["weight_decay"] = trial.suggest_categorical("weight_decay", self.values)

class NotASpace:
    pass
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my_space.py"
    path.write_text(CUSTOM)
    return path


def test_space_without_parts_is_one_point(build) -> None:  # type: ignore[no-untyped-def]
    space = build()
    assert space.size().points == 1
    assert [p for _, p in space.points()] == [space.fixed]


def test_size_multiplies_independent_spaces(build) -> None:  # type: ignore[no-untyped-def]
    space = build({"name": "mmap_shape", "prompt_length": [4]}, "grouping", "scale_init", "schedule")
    assert space.size().points == 3 * 6 * 2 * 2 * 2 == len(list(space.points()))


def test_continuous_parameters_are_named_and_have_no_grid(build) -> None:  # type: ignore[no-untyped-def]
    space = build("learning_rate", "scale_init")
    assert space.size().continuous == ("lr",)
    with pytest.raises(SpaceError, match="lr is continuous"):
        next(space.points())


def test_replay_gives_the_point_back(build) -> None:  # type: ignore[no-untyped-def]
    space = build({"name": "mmap_shape", "prompt_length": [4, 6]}, "grouping", max_params=8_000)
    for params, point in space.points():
        assert space.replay(params) == point


def test_enqueued_values_are_exact_and_the_rest_as_in_the_preset(build) -> None:  # type: ignore[no-untyped-def]
    space = build("mmap_shape", "learning_rate")
    point = space.replay(space.params({"prompt_length": 6, "lr": 0.02}))
    assert (point.settings.prompt_length, point.settings.source_rows, point.recipe.lr) == (6, 6, 0.02)


@pytest.mark.parametrize(
    ("values", "where", "words"),
    [
        ({"prompt_length": 6, "source_rows": 4}, "source_rows", ["4", "b=6", "1, 2, 3, 6"]),
        ({"prompt_length": 5}, "prompt_length", ["5", "4, 6, 8"]),
        ({"lr": 7}, "lr", ["7", "0.001 to 0.1"]),
        ({"prompt_lenght": 4}, "prompt_lenght", ["prompt_length"]),
    ],
)
def test_impossible_enqueued_points_name_key_value_and_fix(build, values, where, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError) as caught:
        build("mmap_shape", "learning_rate").params(values)
    assert caught.value.where == f"search.enqueue.{where}"
    assert all(word in str(caught.value) for word in words)


def test_fixed_shape_that_cannot_be_is_refused(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        build("learning_rate", settings=MmapSettings(prompt_length=6, source_rows=4, source_cols=32))
    assert caught.value.where == "settings.source_rows"
    assert "1, 2, 3, 6" in str(caught.value)


def test_fixed_shape_beyond_the_budget_is_refused(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError) as caught:
        build("learning_rate", max_params=100)
    assert caught.value.where == "search.max_params"
    assert "10920" in str(caught.value)


def test_own_space_from_a_file(build, own: Path) -> None:  # type: ignore[no-untyped-def]
    space = build(
        {"name": "learning_rate", "choices": [0.001, 0.1]}, {"name": f"{own}:Decay", "values": [0.0, 0.1]}
    )
    found = [(p.recipe.lr, p.recipe.weight_decay) for _, p in space.points()]
    assert found == [(0.001, 5e-4), (0.1, 0.0), (0.1, 0.1)]
    assert space.size().points == 3


def test_own_space_from_a_module(build, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(own.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert build({"name": "my_space:Decay"}).spaces[0].writes() == ("recipe.weight_decay",)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mmap_shap", ["'mmap_shap'", "mmap_shape", "file.py:MySpace"]),
        ("no_such_module:Space", ["no_such_module", "cannot be imported"]),
        ("nowhere.py:Space", ["nowhere.py", "does not exist"]),
        ("{own}:NotASpace", ["NotASpace", "derives from search_spaces.Space"]),
        ("{own}:Missing", ["Missing"]),
    ],
)
def test_unknown_spaces(own: Path, name: str, words: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        build_space(name.format(own=own), {}, "space.2")
    assert caught.value.where == "space.2.name"
    assert all(word in str(caught.value) for word in words)


def test_unknown_option_names_the_nearest(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError) as caught:
        build({"name": "mmap_shape", "prompt_lengths": [4]})
    assert caught.value.where == "space.0.prompt_lengths"
    assert "prompt_length" in (caught.value.fix or "")


def test_two_spaces_may_not_set_the_same_key(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError, match=r"recipe\.lr.*space\.0 sets already"):
        build("learning_rate", {"name": "choice", "key": "recipe.lr", "choices": [0.1]})


def test_key_that_the_method_does_not_have(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError, match=r"settings\.depth.*'mmap'"):
        build({"name": "choice", "key": "settings.depth", "choices": [9, 12]})


def test_choice_with_a_value_of_the_wrong_type(build) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError, match="expected bool"):
        build({"name": "choice", "key": "recipe.augment", "choices": [True, "maybe"]})


@pytest.mark.parametrize(
    ("item", "key", "words"),
    [
        ({"name": "learning_rate", "low": 0.1, "high": 0.01}, "low", ["0.1", "0.01"]),
        ({"name": "learning_rate", "choices": [-1.0]}, "choices", ["-1.0"]),
        ({"name": "schedule", "warmup_epochs": [5]}, "warmup_epochs", ["5", "recipe.epochs=5", "0 to 4"]),
        ({"name": "scale_init", "choices": [0.0]}, "choices", ["0.0", "sizes above 0"]),
        ({"name": "grouping", "groups": [3]}, "groups", ["3", "4 tasks", "1 to 2"]),
        ({"name": "grouping", "snapshot_every": [5]}, "snapshot_every", ["5", "probe.snapshot_every=2"]),
        ({"name": "grouping", "similarity": []}, "similarity", ["[]"]),
    ],
)
def test_options_that_cannot_be_used(build, item, key, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError) as caught:
        build(item)
    assert caught.value.where == f"space.0.{key}"
    assert all(word in str(caught.value) for word in words)


def test_groups_are_offered_as_the_objective_allows(build) -> None:  # type: ignore[no-untyped-def]
    space = build(
        {"name": "grouping", "objective": ["tag_mean", "sum"], "groups": [None, 2, 4], "similarity": None}
    )
    found = [(p.grouping.objective, p.grouping.groups) for _, p in space.points()]
    assert found == [("tag_mean", None), ("tag_mean", 2), ("sum", None), ("sum", 2), ("sum", 4)]
    assert space.limits.groups == 4


def test_budget_counts_the_largest_number_of_groups_a_point_can_come_to(build) -> None:  # type: ignore[no-untyped-def]
    few = build("mmap_shape", max_params=10_000)
    many = build("mmap_shape", {"name": "grouping", "objective": ["tag_mean", "sum"]}, max_params=10_000)
    assert few.limits.groups == 2
    assert many.limits.groups == 4
    assert many.parameter_range()[1] <= 10_000
    shapes = {
        (p.settings.prompt_length, p.settings.source_rows, p.settings.source_cols) for _, p in many.points()
    }
    assert len(shapes) < few.size().points


@pytest.mark.parametrize("mode", ["single", "random"])
def test_grouping_space_needs_measured_groups(build, mode: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError, match=f"the grouping is {mode}"):
        build("grouping", grouping=Grouping(mode=mode))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grouping", "tasks", "where"),
    [
        (Grouping(groups=3), 4, "grouping.groups"),
        (Grouping(objective="sum", groups=5), 4, "grouping.groups"),
        (Grouping(), 1, "grouping.mode"),
        (Grouping(mode="fixed", partition=((0, 1), (2,))), 4, "grouping.partition"),
    ],
)
def test_fixed_grouping_must_fit_the_tasks(build, grouping: Grouping, tasks: int, where: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigurationError) as caught:
        build("learning_rate", grouping=grouping, tasks=tasks)
    assert caught.value.where == where


def test_method_without_settings_has_a_space_of_its_recipe(small) -> None:  # type: ignore[no-untyped-def]
    from search_spaces import SearchSpace

    fixed = Point(method="zero_shot", settings=get_method("zero_shot").Settings())
    space = SearchSpace([], fixed, architecture=small, tasks=4)
    assert space.parameter_range() == (0, 0)


def test_a_regime_that_groups_tasks_is_not_searched_where_nothing_groups_them(small) -> None:  # type: ignore[no-untyped-def]
    from search_spaces import SearchSpace

    fixed = Point(method="zs_lp", settings=get_method("zs_lp").Settings())
    given = {"architecture": small, "tasks": 2, "classes": [["a", "b"], ["b", "c", "d"]]}

    def searched(*regimes: str) -> SearchSpace:
        options = {"key": "settings.regime", "choices": list(regimes)}
        return SearchSpace([build_space("choice", options, "space.0")], fixed, **given)

    width = small.embed_dim
    assert searched("single", "multi").parameter_range() == (4 * width, 5 * width), "rows by name"
    with pytest.raises(SpaceError, match="says nothing of groups") as caught:
        searched("multi", "grouped")
    assert caught.value.where == "space.0"


def test_a_method_that_trains_something_for_every_class_asks_for_the_classes(small) -> None:  # type: ignore[no-untyped-def]
    from search_spaces import SearchSpace

    fixed = Point(method="zs_lp", settings=get_method("zs_lp").Settings())
    with pytest.raises(InputError, match="for every class"):
        SearchSpace([], fixed, architecture=small, tasks=2, max_params=10)
