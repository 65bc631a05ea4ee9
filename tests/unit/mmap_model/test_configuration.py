"""Configurations are strict, survive JSON, and have a key that depends only on what is trained."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmap_model.cells import Cell, Configuration, Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split, canonical_partition
from mmap_model.errors import ConfigurationError
from mmap_model.methods.mmap import MmapSettings
from mmap_model.plain import from_plain

CELL = Cell(
    configuration=Configuration(method="mmap", settings=MmapSettings(), partition=((0, 2), (1, 3))),
    split=Split(shots=6),
    seeds=Seeds.both(1),
    dataset="d" * 32,
    backbone="b" * 32,
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value.to_dict()))


def test_cells_points_and_configurations_survive_json() -> None:
    point = Point(method="mmap", settings=MmapSettings(), grouping=Grouping(groups=2, probe=Probe(same=True)))
    assert Cell.from_dict(through_json(CELL)) == CELL
    assert Point.from_dict(through_json(point)) == point
    assert Configuration.from_dict(through_json(CELL.configuration)) == CELL.configuration


def test_the_key_is_the_same_in_another_process() -> None:
    program = (
        "import json, sys; from mmap_model.cells import Cell; "
        "print(Cell.from_dict(json.load(sys.stdin)).key); assert 'torch' not in sys.modules"
    )
    text = json.dumps(CELL.to_dict())
    done = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == CELL.key


def test_the_key_does_not_depend_on_how_numbers_are_written() -> None:
    written = through_json(CELL)
    written["configuration"]["recipe"].update(lr=3.5e-3, weight_decay=0.0005)
    written["configuration"]["settings"]["scale_init"] = 1
    plain = through_json(CELL)
    plain["configuration"]["settings"]["scale_init"] = 1.0
    assert Cell.from_dict(written).key == Cell.from_dict(plain).key


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "probe"},
        {"split": Split(shots=12)},
        {"split": Split(percent=6)},
        {"seeds": Seeds.both(2)},
        {"seeds": Seeds(draw=1, train=2)},
        {"protocol": "paper"},
        {"largest_shots": 12},
        {"precision": "bf16"},
        {"dataset": "e" * 32},
        {"backbone": "c" * 32},
        {"snapshot_every": 2},
        {"configuration": dataclasses.replace(CELL.configuration, partition=((0, 1), (2, 3)))},
        {"configuration": dataclasses.replace(CELL.configuration, recipe=Recipe(lr=0.01))},
        {"configuration": dataclasses.replace(CELL.configuration, settings=MmapSettings(scale_init=0.02))},
    ],
)
def test_everything_that_decides_the_numbers_changes_the_key(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CELL, **change).key != CELL.key


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"epohcs": 5}, "epochs"),
        ({"epochs": "five"}, "expected int"),
        ({"epochs": True}, "expected int"),
        ({"schedule": "cosin"}, "cosine"),
        ({"epochs": 0}, "1 or more"),
        ({"warmup_epochs": 5}, "0 to 4"),
        ({"lr": 0}, "positive"),
        ({"lr": -1.0}, "positive"),
        ({"momentum": 1.0}, "momentum"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"template": "a photo"}, "class name"),
    ],
)
def test_wrong_recipes_say_where_and_what_to_do(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        from_plain(Recipe, data, "study.yaml: recipe")
    assert caught.value.where and "recipe" in caught.value.where
    assert caught.value.fix


def test_unknown_methods_and_settings_suggest_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="mmap"):
        Point.from_dict({"method": "mmpa"})
    with pytest.raises(ConfigurationError, match="source_rows"):
        Point.from_dict({"method": "mmap", "settings": {"source_row": 2}})
    with pytest.raises(ConfigurationError, match="method"):
        Point.from_dict({"settings": {}})


def test_snapshots_are_a_multiple_of_the_probes() -> None:
    Grouping(snapshot_every=6, probe=Probe(snapshot_every=3))
    with pytest.raises(ConfigurationError, match="multiple"):
        Grouping(snapshot_every=5, probe=Probe(snapshot_every=2))


def test_a_fixed_partition_goes_with_mode_fixed_only() -> None:
    assert Grouping(mode="fixed", partition=((3, 1), (2, 0))).partition == ((0, 2), (1, 3))
    for wrong in ({"mode": "fixed"}, {"partition": ((0, 1),)}):
        with pytest.raises(ConfigurationError, match="mode: fixed"):
            Grouping(**wrong)  # type: ignore[arg-type]


def test_a_split_is_shots_or_percent() -> None:
    assert (Split(shots=6).label, Split(percent=10).label) == ("6-shot", "10%")
    for wrong in ({}, {"shots": 1, "percent": 1.0}, {"shots": 0}, {"percent": 100.0}):
        with pytest.raises(ConfigurationError):
            Split(**wrong)  # type: ignore[arg-type]


@given(st.permutations(range(6)), st.lists(st.integers(1, 5), max_size=4), st.randoms())
def test_a_partition_has_one_canonical_form(order: list[int], cuts: list[int], random: Any) -> None:
    edges = [0, *sorted(set(cuts)), 6]
    groups = [order[a:b] for a, b in itertools.pairwise(edges)]
    canonical = canonical_partition(groups)
    random.shuffle(groups)
    for group in groups:
        random.shuffle(group)
    assert canonical_partition(groups) == canonical
    assert sorted(t for g in canonical for t in g) == list(range(6))
    assert [g[0] for g in canonical] == sorted(g[0] for g in canonical)


@pytest.mark.parametrize("groups", [[], [[0], []], [[0], [0, 1]], [[0], [2]], [[1]]])
def test_overlaps_and_gaps_are_no_partition(groups: list[list[int]]) -> None:
    with pytest.raises(ConfigurationError, match="exactly once"):
        canonical_partition(groups)
