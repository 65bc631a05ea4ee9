"""Names that file systems, archives and other systems produce: rows of a name and what has to be said of it.

``works`` rows are found, drawn and listed under that name; ``warned`` rows too, and `data check` names them;
the others stop `data check` (exit code 1) and everything else (exit code 2) in words.
"""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmap_model.data.sources.base import loose

if TYPE_CHECKING:
    from tests.unit.inputs.conftest import Ask

WORKS, WARNED, REFUSED = "works", "warned", "refused"

NAMES: dict[bytes, tuple[str, str]] = {
    "café".encode(): (WORKS, ""),
    "写真".encode(): (WORKS, ""),
    "घोड़ा".encode(): (WORKS, ""),
    "🐕".encode(): (WORKS, ""),
    b"C++": (WORKS, ""),
    b"it's (1) #2, 50% & $HOME": (WORKS, ""),
    b"two  spaces": (WORKS, ""),
    "no\u00a0break".encode(): (WORKS, ""),
    "line\u2028separator".encode(): (WORKS, ""),
    "עברית".encode(): (WORKS, ""),
    b"a" * 60: (WORKS, ""),
    unicodedata.normalize("NFD", "café").encode(): (WARNED, "in decomposed characters, as macOS writes them"),
    unicodedata.normalize("NFD", "한국").encode(): (WARNED, "in decomposed characters"),
    b"what?": (WARNED, "holds ?, which Windows does not allow"),
    b"a:b": (WARNED, "holds :"),
    b"back\\slash": (WARNED, "holds \\"),
    b"aux": (WARNED, "is a device on Windows"),
    b" before": (WARNED, "begins or ends with a space"),
    b"after ": (WARNED, "begins or ends with a space"),
    b"caf\xe9": (REFUSED, "is not UTF-8: it holds the byte 0xE9"),
    b"\xff\xfe": (REFUSED, "is not UTF-8: it holds the byte 0xFF"),
    "café".encode("cp437"): (REFUSED, "is not UTF-8: it holds the byte 0x82"),
    "写真".encode("shift-jis"): (REFUSED, "is not UTF-8"),
    b"caf\xc3": (REFUSED, "is not UTF-8: it holds the byte 0xC3"),
    b"\xed\xa0\x80": (REFUSED, "is not UTF-8: it holds the byte 0xED"),
    b"line\nbreak": (REFUSED, "holds the control character '\\n'"),
    b"tab\tulator": (REFUSED, "holds the control character '\\t'"),
    b"return\r": (REFUSED, "holds the control character '\\r'"),
    b"\x1b[2J": (REFUSED, "holds the control character '\\x1b'"),
    b"\x7f": (REFUSED, "holds the control character '\\x7f'"),
}
PLACES = ("task", "class", "image")


def place(tree: Path, where: str, name: bytes) -> None:
    """Give one task, one class or one image of the tree that name."""
    root = os.fsencode(tree)
    old, new = {
        "task": (b"photo", name),
        "class": (b"photo/dog", b"photo/" + name),
        "image": (b"photo/dog/0.png", b"photo/dog/" + name + b".png"),
    }[where]
    os.rename(root + b"/" + old, root + b"/" + new)  # noqa: PTH104 (paths are bytes here)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_means_the_same_everywhere_or_is_named(name: bytes, where: str, ask: Ask, tree: Path) -> None:
    place(tree, where, name)
    kind, words = NAMES[name]
    if (name, where) == (b"after ", "image"):  # the space is before the extension
        kind, words = WORKS, ""
    data = f"dataset.root={tree}"
    check = ask("data", "check", "folder", data)
    # As one class of one task this is a class that the other task lacks, which is said too.
    assert check.code == (1 if kind == REFUSED else 0), check.text
    assert words in check.text
    assert kind == REFUSED or ("name that other systems change" in check.text) == (kind == WARNED)
    exported = ask("data", "draws", "export", "folder", "lists", data, "splits=[{shots: 1}]", "seeds=[1]")
    if kind == REFUSED:
        assert exported.code == 2
        assert words in exported.text
        assert not Path("lists").exists()
        return
    assert exported.code == 0, exported.text
    read = ask(
        "data", "draws", "import", "folder", "lists", "again", data, "splits=[{shots: 1}]", "seeds=[1]"
    )
    assert read.code == 0, read.text
    assert _files(Path("again")) == _files(Path("lists"))
    assert ask("data", "check", "folder", data, "--json").code == 0


@pytest.mark.parametrize("name", [b"caf\xe9", b"line\nbreak"], ids=ascii)
@pytest.mark.parametrize(
    "command", [("data", "prepare"), ("data", "classes"), ("plan",), ("run",), ("sweep",)]
)
def test_no_command_begins_with_names_that_no_record_can_hold(
    command: tuple[str, ...], name: bytes, ask: Ask, tree: Path
) -> None:
    place(tree, "class", name)
    Path("x.yaml").write_text(f"name: x\ndataset: {{name: folder, root: {tree}}}\nsplits: [{{shots: 1}}]\n")
    answer = ask(*command, "x.yaml")
    assert (answer.code, NAMES[name][1] in answer.text) == (2, True), answer.text
    assert {p.name for p in Path().iterdir()} == {"tree", "x.yaml"}


def test_a_faulty_name_is_in_the_document_for_scripts(ask: Ask, tree: Path) -> None:
    place(tree, "image", b"caf\xe9")
    answer = ask("data", "check", "folder", f"dataset.root={tree}", "--json")
    (fault,) = (f for f in json.loads(answer.out)["faults"] if f["kind"] == "bad_name")
    assert fault["id"] == "photo/dog/caf\udce9.png"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("café", unicodedata.normalize("NFD", "café")), "are one name on macOS and Windows"),
        (("Dog", "dog"), "are one name on macOS and Windows"),
        (("STRASSE", "straße"), "are one name on macOS and Windows"),
    ],
)
def test_names_that_other_systems_take_for_one_are_named(
    names: tuple[str, str], words: str, ask: Ask, tree: Path
) -> None:
    (tree / "photo" / "dog").rename(tree / "photo" / names[0])
    (tree / "photo" / "cat").rename(tree / "photo" / names[1])
    assert words in ask("data", "check", "folder", f"dataset.root={tree}").text


def test_one_class_in_two_forms_of_unicode_is_taken_for_one_class(ask: Ask, tree: Path) -> None:
    (tree / "photo" / "dog").rename(tree / "photo" / "café")
    (tree / "clipart" / "dog").rename(tree / "clipart" / unicodedata.normalize("NFD", "café"))
    assert "seem to be one class" in ask("data", "check", "folder", f"dataset.root={tree}").text


def test_lists_from_a_mac_name_the_images_of_a_linux_tree(ask: Ask, tree: Path) -> None:
    for task in ("clipart", "photo"):
        (tree / task / "dog").rename(tree / task / "café")
        (tree / task / "café" / "0.png").rename(tree / task / "café" / "ü.png")
        lines = f"{task}/café/ü.png 1\n{task}/cat/0.png 0\n"
        (Path("lists") / task).mkdir(parents=True)
        (Path("lists") / task / "train_1-shot.txt").write_text(unicodedata.normalize("NFD", lines))
    data = (f"dataset.root={tree}", "splits=[{shots: 1}]", "seeds=[1]")
    assert ask("data", "draws", "import", "folder", "lists", "own", *data).code == 0
    assert "photo/café/ü.png" in Path("own/photo/train_1-shot_seed1.txt").read_text()


@pytest.mark.parametrize(
    ("one", "other"), [("C", "C++"), ("A+", "A-"), ("का", "कि"), ("№1", "1"), ("x²", "x³")]
)
def test_names_are_told_apart_by_more_than_their_letters(one: str, other: str) -> None:
    assert loose(one) != loose(other)


def test_classes_of_alike_names_are_chosen_by_their_own(ask: Ask, tree: Path) -> None:
    for task in ("clipart", "photo"):
        (tree / task / "dog").rename(tree / task / "C++")
        (tree / task / "cat").rename(tree / task / "C")
        (tree / task / "C sharp").mkdir()
        (tree / task / "C" / "0.png").rename(tree / task / "C sharp" / "0.png")
    answer = ask(
        "data", "classes", "folder", f"dataset.root={tree}", "dataset.classes=[C++, c_SHARP]", "--json"
    )
    assert [row["class"] for row in json.loads(answer.out)["classes"]] == ["C sharp", "C++"]


@pytest.mark.parametrize("name", ["", " ", "line\nbreak", "a\0b"])
@pytest.mark.parametrize("column", ["task", "label"])
def test_names_in_a_table_are_held_to_the_same(name: str, column: str, ask: Ask, tmp_path: Path) -> None:
    image = (tmp_path / "x.png").read_bytes() if (tmp_path / "x.png").exists() else b""
    rows = {"task": ["a", "a", "a", "b", "b", "b"] * 2, "label": ["x", "y", "z"] * 4, "image": [image] * 12}
    rows[column] = [name if value in ("a", "x") else value for value in rows[column]]
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    answer = ask("data", "classes", "table", f"dataset.root={tmp_path}/t.parquet")
    assert answer.code == 2, answer.text
    assert any(words in answer.text for words in ("has no task or no label", "control character", "is blank"))


def _files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*.txt"))}
