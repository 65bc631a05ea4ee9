"""Lists on the command line: one notation for every command that takes them."""

from __future__ import annotations

import pytest

from mmap_model.errors import InputError
from orchestrator.cli import tree
from orchestrator.cli.lists import NAMES, NUMBERS, ListOptions, spread

THREE = ["--seeds", "4", "--seeds", "5", "--seeds", "6"]
COMMANDS = tree.commands(tree.root())


@pytest.mark.parametrize(
    "typed",
    ["--seeds 4,5,6", "--seeds 4 5 6", "--seeds 4-6", "--seeds 4, 5, 6", "--seeds=4,5,6", "--seeds 4,5-6"],
)
def test_numbers_in_a_row_are_read_alike(typed: str) -> None:
    assert spread(["demo", *typed.split(), "--json"]) == ["demo", *THREE, "--json"]
    assert spread([*typed.split(), "demo"]) == [*THREE, "demo"]


def test_names_end_at_the_next_option_or_override() -> None:
    typed = ["symbols", "--methods", "coop_mt", "mmap", "storage=x", "--shots", "6", "key=1"]
    assert spread(typed) == [
        *("symbols", "--methods", "coop_mt", "--methods", "mmap", "storage=x"),
        *("--shots", "6", "key=1"),
    ]
    assert spread(["--methods", "mmap,maple"]) == ["--methods", "mmap", "--methods", "maple"]
    assert spread(["demo", "--", "--seeds", "1,2"]) == ["demo", "--", "--seeds", "1,2"]
    assert spread(["demo", "--seeds"]) == ["demo", "--seeds"], "Click says that a value is missing"


@pytest.mark.parametrize(
    "typed", ["--seeds four", "--seeds 1,x", "--seeds 3-1", "--seeds -1", "--seeds 1-99999999"]
)
def test_what_is_no_list_of_numbers_is_refused_by_name(typed: str) -> None:
    with pytest.raises(InputError) as refused:
        spread(typed.split())
    assert refused.value.where == "--seeds" and refused.value.fix


def test_every_command_with_such_a_list_reads_it() -> None:
    found = []
    for path, command in COMMANDS.items():
        lists = [
            p for p in command.params if set(p.opts) & (NUMBERS | NAMES) and getattr(p, "multiple", False)
        ]
        found += [path for _ in lists]
        assert not lists or isinstance(command, ListOptions), path
    assert {"orchestrator compare", "orchestrator confirm", "orchestrator data check"} <= set(found)
