from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.study import Study, StudyError, load_study
from orchestrator.study.source import WORDS, override, parse

TEXT = """\
name: x
recipe:
  lr: 1e-5
  augment: true
space:
  - mmap_shape
  - name: learning_rate
    low: 0.01
seeds: [1, 2]
"""


def test_numbers_are_read_as_in_yaml_1_2() -> None:
    data = parse(
        "a: 1e-5\nb: .5\nc: 1.\nd: n\ne: true\nf: 2026-11-21\ng: 0.1.2\nh: null\ni: -3", "f.yaml"
    ).data
    assert data == {
        "a": 1e-5,
        "b": 0.5,
        "c": 1.0,
        "d": "n",
        "e": True,
        "f": "2026-11-21",
        "g": "0.1.2",
        "h": None,
        "i": -3,
    }


def test_overrides_reach_into_mappings_and_lists() -> None:
    source = override(
        parse(TEXT, "f.yaml"),
        [
            "recipe.lr=0.5",
            "space.1.high=2",
            "space.0.prompt_length=[2, 4]",
            "seeds.1=9",
            "search.trials=3",
            "a=b=c",
        ],
    )
    assert source.data["recipe"] == {"lr": 0.5, "augment": True}
    assert source.data["space"] == [
        {"name": "mmap_shape", "prompt_length": [2, 4]},
        {"name": "learning_rate", "low": 0.01, "high": 2},
    ]
    assert source.data["seeds"] == [1, 9]
    assert source.data["search"] == {"trials": 3}
    assert source.data["a"] == "b=c"


def test_the_original_stays_as_it_was() -> None:
    source = parse(TEXT, "f.yaml")
    override(source, ["recipe.lr=1", "seeds.0=7"])
    assert source.data["recipe"]["lr"] == 1e-5
    assert source.data["seeds"] == [1, 2]


def test_errors_are_located_in_the_file_or_in_the_override() -> None:
    source = override(parse(TEXT, "f.yaml"), ["recipe.lr=2", "seeds=[4]"])
    assert source.where("recipe.augment") == "f.yaml:4: recipe.augment"
    assert source.where("space.1.low") == "f.yaml:8: space.1.low"
    assert source.where("recipe.lr") == "override recipe.lr=2: recipe.lr"
    assert source.where("seeds.0") == "override seeds=[4]: seeds.0"
    assert source.where("search.trials") == "f.yaml: search.trials"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trials", ["trials", "key=value"]),
        ("=3", ["key=value"]),
        ("recipe..lr=3", ["key=value"]),
        ("recipe.lr=[1", ["recipe.lr", "not YAML"]),
        ("seeds.7=1", ["seeds has no '7'", "0 to 1"]),
        ("name.x=1", ["name has no 'x'"]),
    ],
)
def test_impossible_overrides(text: str, words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        override(parse(TEXT, "f.yaml"), [text])
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b", ["f.yaml:2: name", "twice", "line 1"]),
        ("a:\n  b: 1\n  b: 2", ["f.yaml:3: a.b", "twice", "line 2"]),
        ("a: [1, 2", ["f.yaml:1", "not YAML"]),
        ("- 1", ["f.yaml", "expected a mapping"]),
        ("", ["f.yaml", "empty"]),
        ("a: !!python/object:os.system 1", ["f.yaml:1", "tag", "is not taken"]),
    ],
)
def test_text_that_is_no_study(text: str, words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        parse(text, "f.yaml")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(
            f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
    ],
)
def test_aliases_that_stand_for_billions_are_refused(text: str) -> None:
    with pytest.raises(StudyError, match=r"expands to more than 10000 values|more than 50 levels"):
        parse(text, "f.yaml")


def test_an_alias_is_what_it_names() -> None:
    assert parse("a: &x {lr: 1}\nb: *x\n", "f.yaml").data == {"a": {"lr": 1}, "b": {"lr": 1}}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.getcwd []", "!!python/name:os.system", "!x 1"])
def test_tags_build_no_objects(tag: str) -> None:
    with pytest.raises(StudyError, match=r"the tag .* is not taken"):
        parse(f"a: {tag}", "f.yaml")


def test_on_and_off_are_words_where_a_key_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text("name: words\nfuse: off\ncompute: {compile: on}\nspace: [{name: scale_init}]\n")
    study = load_study(str(path))
    assert (study.fuse, study.compute.compile) == ("off", "on")
    again = load_study(str(path), ["fuse=on", "compute.compile=off", "compute={compile: off}"])
    assert (again.fuse, again.compute.compile) == ("on", "off")
    with pytest.raises(StudyError, match=r"on is true in YAML 1\.1"):
        load_study(str(path), ["compute.checkpoint=on"])


def test_every_key_that_takes_on_or_off_is_known_to_the_reader() -> None:
    def keys(model: type, prefix: str) -> Iterator[str]:
        hints = typing.get_type_hints(model)
        for name, kind in hints.items():
            for part in (kind, *typing.get_args(kind)):
                if dataclasses.is_dataclass(part) or hasattr(part, "model_fields"):
                    yield from keys(part, f"{prefix}{name}.")
            if typing.get_origin(kind) is typing.Literal and {"on", "off"} & set(typing.get_args(kind)):
                yield f"{prefix}{name}"

    assert set(keys(Study, "")) == WORDS


def test_a_character_written_as_two_escapes_of_json_is_one_character() -> None:
    source = override(parse(TEXT, "f.yaml"), ['name="\\ud83d\\ude00 and \\uD83D\\uDE80"'])
    assert source.data["name"] == "\U0001f600 and \U0001f680"
