from __future__ import annotations

from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmap_model.architecture import read_architecture
from mmap_model.cells import Point
from mmap_model.configuration import Grouping
from mmap_model.methods import get_method
from mmap_model.methods.mmap import MmapSettings
from search_spaces import SearchSpace, SpaceError, build_search_space

VIT = read_architecture("ViT-B-16-quickgelu")
SMALL = read_architecture("symbols")


class Drawn:
    """Takes every choice from hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self.choices: dict[str, tuple[object, ...]] = {}

    def suggest_categorical(self, name, choices):  # type: ignore[no-untyped-def]
        assert len(choices) > 0
        self.choices[name] = tuple(choices)
        return self._data.draw(st.sampled_from(list(choices)), label=name)

    def suggest_int(self, name, low, high, *, step=1, log=False):  # type: ignore[no-untyped-def]
        return self._data.draw(st.sampled_from(range(low, high + 1, step)), label=name)

    def suggest_float(self, name, low, high, *, step=None, log=False):  # type: ignore[no-untyped-def]
        return self._data.draw(st.floats(low, high), label=name)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    architecture=st.sampled_from([VIT, SMALL]),
    tasks=st.integers(2, 7),
    lengths=st.lists(st.integers(1, 32), min_size=1, max_size=4, unique=True),
    budget=st.none() | st.integers(20_000, 400_000),
    modules=st.sampled_from(["both", "group", "task"]),
    objective=st.sampled_from(["tag_mean", "sum", "sum_centered"]),
)
def test_every_suggested_point_is_valid_and_within_budget(  # type: ignore[no-untyped-def]
    data, architecture, tasks, lengths, budget, modules, objective
) -> None:
    fixed = Point(
        method="mmap", settings=MmapSettings(modules=modules), grouping=Grouping(objective=objective)
    )
    items = [{"name": "mmap_shape", "prompt_length": lengths}, {"name": "learning_rate"}]
    try:
        space = build_search_space(items, fixed, architecture=architecture, tasks=tasks, max_params=budget)
    except SpaceError as error:
        assert error.where == "search.max_params"
        return
    point = space.suggest(Drawn(data))
    s = point.settings
    method = get_method("mmap")
    method.check(s, architecture)
    b, m, n = s.prompt_length, s.source_rows, s.source_cols
    assert b in lengths and b % m == 0
    assert gcd(architecture.text.width, architecture.image.width) % n == 0
    least, most = space.parameters(point)
    for groups, count in ((space.limits.groups, most),):
        modules_count = {"both": groups + tasks, "group": groups, "task": tasks}[modules]
        widths = architecture.text.width + architecture.image.width
        assert count == architecture.depth * modules_count * (m * n + (b // m) * (widths // n))
    assert least <= most
    assert budget is None or most <= budget


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=3, unique=True),
    budget=st.none() | st.integers(30_000, 200_000),
)
def test_enumeration_meets_every_shape_once(lengths, budget) -> None:  # type: ignore[no-untyped-def]
    method = get_method("mmap")
    expected = set()
    for b in lengths:
        for m in range(1, b + 1):
            for n in range(1, 257):
                if b % m == 0 and 256 % n == 0:
                    shape = MmapSettings(prompt_length=b, source_rows=m, source_cols=n)
                    if budget is None or method.count(shape, VIT, tasks=4, groups=2) <= budget:
                        expected.add((b, m, n))
    fixed = Point(method="mmap", settings=MmapSettings(), grouping=Grouping())
    items = [{"name": "mmap_shape", "prompt_length": lengths}]
    try:
        space = build_search_space(items, fixed, architecture=VIT, tasks=4, max_params=budget)
    except SpaceError:
        assert not expected
        return
    found = [
        (p.settings.prompt_length, p.settings.source_rows, p.settings.source_cols) for _, p in space.points()
    ]
    assert len(found) == len(set(found)) == space.size().points
    assert set(found) == expected
    counts = [space.parameters(p) for _, p in space.points()]
    assert space.parameter_range() == (min(c[0] for c in counts), max(c[1] for c in counts))


def test_paper_preset_is_the_papers_budget_on_the_papers_backbone(build, vit) -> None:  # type: ignore[no-untyped-def]
    space: SearchSpace = build("mmap_shape", "learning_rate", "grouping", architecture=vit)
    point = space.replay(space.preset())
    assert point.settings == MmapSettings()
    assert point.recipe.lr == 0.0035
    assert space.parameters(point) == (129_744, 129_744)


def test_paper_preset_is_clipped_to_what_the_widths_admit(build) -> None:  # type: ignore[no-untyped-def]
    shape = build("mmap_shape")
    assert shape.values(shape.preset()) == {"prompt_length": 14, "source_rows": 14, "source_cols": 32}
    short = build({"name": "mmap_shape", "prompt_length": [2, 4]})
    assert short.values(short.preset()) == {"prompt_length": 4, "source_rows": 4, "source_cols": 32}


def test_names_carry_the_condition_their_choices_depend_on(build) -> None:  # type: ignore[no-untyped-def]
    free = build("mmap_shape")
    assert list(free.preset()) == ["prompt_length", "source_rows@b=14", "source_cols"]
    bound = build("mmap_shape", max_params=6_000)
    names = list(bound.preset())
    assert names[2].startswith("source_cols@b=")
    choices: dict[str, set[tuple[object, ...]]] = {}
    for params, _ in bound.points():
        for name in params:
            choices.setdefault(name, set())
    # Optuna refuses a categorical whose choices change: every name must have one list of choices.
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        bound.suggest(trial)
        study.tell(trial, 0.0)


@pytest.mark.parametrize(
    ("options", "where", "words"),
    [
        ({"prompt_length": [6], "source_rows": [4]}, "source_rows", ["6", "4", "1, 2, 3, 6"]),
        ({"prompt_length": [4], "source_rows": [4, 3]}, "source_rows", ["3", "divides none", "4"]),
        ({"source_cols": [3]}, "source_cols", ["3", "32", "96", "128", "1, 2, 4, 8, 16, 32"]),
        ({"prompt_length": []}, "prompt_length", ["[]", "list each candidate once"]),
        ({"prompt_length": [4, 4]}, "prompt_length", ["[4, 4]"]),
        ({"prompt_length": [0]}, "prompt_length", ["[0]", "1 or more"]),
    ],
)
def test_impossible_options_name_key_value_and_fix(build, options, where, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpaceError) as caught:
        build({"name": "mmap_shape", **options})
    assert caught.value.where == f"space.0.{where}"
    assert all(word in str(caught.value) for word in words)


def test_budget_that_admits_nothing_tells_the_smallest_count(build) -> None:  # type: ignore[no-untyped-def]
    smallest = build("mmap_shape").parameter_range()[0]
    with pytest.raises(SpaceError) as caught:
        build("mmap_shape", max_params=smallest - 1)
    assert caught.value.where == "search.max_params"
    assert str(smallest) in str(caught.value)
    assert build("mmap_shape", max_params=smallest).parameter_range() == (smallest, smallest)
