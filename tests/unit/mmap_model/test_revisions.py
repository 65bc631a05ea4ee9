"""Keys stay what they were when fields are added; a change of numbers enters only the keys it concerns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from mmap_model import revisions
from mmap_model.cells import Cell, Configuration
from mmap_model.configuration import Probe, Recipe, Seeds, Split
from mmap_model.methods import get_method
from mmap_model.methods.mmap import MmapSettings
from mmap_model.plain import from_plain, to_plain
from mmap_model.revisions import Revision, added_field, is_left_out, reasons_between, revisions_of

CELL = Cell(
    configuration=Configuration(method="mmap", settings=MmapSettings(), partition=((0, 2), (1, 3))),
    split=Split(shots=6),
    seeds=Seeds.both(1),
    dataset="d" * 32,
    backbone="b" * 32,
)

FIRST_FIELDS = {
    "Cell": "backbone configuration dataset kind largest_shots precision protocol seeds snapshot_every split",
    "Configuration": "method partition recipe settings",
    "Recipe": "augment batch_size clip_norm epochs loss_reduction lr momentum schedule template "
    "warmup_epochs warmup_lr weight_decay",
    "Split": "percent shots",
    "Seeds": "draw train",
    "Probe": "prompt_length recipe same scale_init snapshot_every source_cols source_rows",
    "bitfit": "",
    "clip_adapter": "biases ratio reduction shared",
    "coop": "prompt_init prompt_length regime template",
    "full_ft": "regime",
    "joint": "modules positions prompt_init prompt_length",
    "maple": "before_ln_pre depth prompt_init prompt_length regime template",
    "mlp": "modules positions prompt_length source_dim source_init",
    "mmap": "modules positions prompt_length scale_init source_cols source_init source_rows",
    "vpt": "before_ln_pre depth prompt_init prompt_length regime",
    "zero_shot": "",
}
"""Fields of the first records. Nothing is added here: declare a new field with ``added_field``. (A new
method need not be listed until its first records exist.)"""


@dataclass(frozen=True, kw_only=True)
class Before:
    rate: float = 0.1


@dataclass(frozen=True, kw_only=True)
class After:
    rate: float = 0.1
    depth: int = added_field(1)


def revise(monkeypatch: pytest.MonkeyPatch, *changes: Revision) -> None:
    monkeypatch.setattr(revisions, "REVISIONS", changes)


def test_an_added_field_stays_out_of_the_plain_form_until_it_is_used() -> None:
    assert to_plain(After()) == to_plain(Before())
    assert to_plain(After(depth=2)) == {"rate": 0.1, "depth": 2}
    assert from_plain(After, to_plain(After()), "after") == After()
    assert from_plain(After, to_plain(After(depth=2)), "after") == After(depth=2)


def first_class(name: str) -> Any:
    known = {c.__name__: c for c in (Cell, Configuration, Recipe, Split, Seeds, Probe)}
    return known[name] if name in known else get_method(name).Settings


def keyed(cls: Any) -> str:
    return " ".join(sorted(f.name for f in dataclasses.fields(cls) if not is_left_out(f, f.default)))


def test_no_field_enters_keys_that_the_first_records_did_not_have() -> None:
    assert {name: keyed(first_class(name)) for name in FIRST_FIELDS} == FIRST_FIELDS


def test_a_revision_changes_only_the_keys_of_cells_it_applies_to(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(CELL, protocol="paper")
    revise(monkeypatch)
    before, before_other = CELL.key, other.key
    revise(
        monkeypatch,
        Revision(name="draws", number=2, reason="r2", applies=lambda cell: cell.protocol == "search"),
        Revision(name="draws", number=3, reason="r3", applies=lambda cell: cell.split.shots == 99),
    )
    assert revisions_of(CELL) == {"draws": 2}
    assert CELL.key != before
    assert other.key == before_other


def test_the_reasons_name_every_change_between_two_records(monkeypatch: pytest.MonkeyPatch) -> None:
    revise(
        monkeypatch,
        Revision(name="draws", number=2, reason="r2", applies=lambda cell: True),
        Revision(name="draws", number=3, reason="r3", applies=lambda cell: True),
    )
    assert reasons_between({}, {"draws": 3}) == ["r2", "r3"]
    assert reasons_between({"draws": 2}, {"draws": 2}) == []
    assert "later version" in reasons_between({"light": 4}, {})[0]


@pytest.mark.parametrize(
    ("changed", "revised"),
    [
        ({}, True),
        ({"kind": "probe"}, True),
        ({"protocol": "paper"}, False),
        ({"test_images": "given"}, False),
        ({"protocol": "paper", "largest_percent": 20.0}, False),
        ({"split": Split(percent=20), "largest_percent": 20.0, "test_images": "given"}, False),
    ],
)
def test_draws_of_a_test_block_change_only_the_keys_of_cells_drawn_to_be_searched(
    changed: dict[str, Any], revised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dataclasses.replace(CELL, **changed)
    first = {name: value for name, value in changed.items() if name in FIRST_FIELDS["Cell"].split()}
    key = now.key
    assert ("draws" in revisions_of(now)) == revised
    revise(monkeypatch)
    assert (dataclasses.replace(CELL, **first).key != key) == revised


def test_a_larger_percentage_of_another_split_is_part_of_the_key() -> None:
    assert dataclasses.replace(CELL, largest_percent=20.0).key != CELL.key
    small = dataclasses.replace(CELL, split=Split(percent=10), test_images="given")
    assert dataclasses.replace(small, largest_percent=20.0).key != small.key
    assert Cell.from_dict(dataclasses.replace(small, largest_percent=20.0).to_dict()).largest_percent == 20.0


@pytest.mark.parametrize(
    ("changed", "revised"),
    [
        ({}, True),
        ({"kind": "probe"}, True),
        ({"large_images": False}, False),
        ({"kind": "untrained"}, False),
        ({"configuration": dataclasses.replace(CELL.configuration, recipe=Recipe(augment=False))}, False),
    ],
)
def test_sharper_crops_change_only_the_keys_of_cells_that_crop_from_large_images(
    changed: dict[str, Any], revised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = dataclasses.replace(CELL, **{"protocol": "paper", "large_images": True, **changed})
    first = dataclasses.replace(cell, large_images=False)
    assert (revisions_of(cell) == {"crops": 2}) == revised
    assert (cell.key != first.key) == revised
    revise(monkeypatch)
    assert cell.key == first.key, "that images are large is no part of the key by itself"
