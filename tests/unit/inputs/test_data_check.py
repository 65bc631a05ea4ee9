"""`orchestrator data check` finds every kind of fault that it knows, and nothing in clean trees."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model.data.faults import KINDS
from mmap_model.data.generated import write_mini_domainnet, write_office_home
from orchestrator.cli.main import execute

ANTS, BEES = "sketch/ant", "sketch/bee"


def picture(seed: int = 0, kind: str = "PNG", mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def folders(root: Path) -> list[str]:
    """Two domains of three classes, twelve images each."""
    for seed, place in enumerate(f"{d}/{c}" for d in ("photo", "sketch") for c in ("ant", "bee", "wasp")):
        (root / place).mkdir(parents=True)
        for number in range(12):
            (root / place / f"{number:02d}.png").write_bytes(picture(100 * seed + number))
    return ["folder", f"dataset.root={root}"]


def mini_domainnet(root: Path) -> list[str]:
    write_mini_domainnet(root, tasks=("clipart", "sketch"), classes=("ant", "bee"), per_class=12, side=16)
    return ["mini_domainnet", f"dataset.root={root}", "dataset.tasks=[clipart, sketch]"]


def office_home(root: Path) -> list[str]:
    write_office_home(root, tasks=("art",), classes=("Mug", "TV"), per_class=12, side=8)
    return ["office_home", f"dataset.root={root}", "dataset.tasks=[art]", "dataset.classes=[Mug, TV]"]


LAYOUTS = {"folder": folders, "mini_domainnet": mini_domainnet, "office_home": office_home}


@dataclass(frozen=True)
class Planted:
    """A fault: in which layout it is planted, how, and which others come with it."""

    layout: str
    plant: Callable[[Path], object]
    beside: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def first(root: Path, place: str = ANTS) -> Path:
    return min((root / place).iterdir())


def written(content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda root: first(root).write_bytes(content())


def added(name: str, content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda root: (root / ANTS / name).write_bytes(content())


def rewritten(
    change: Callable[[list[str]], list[str]], name: str = "sketch_train"
) -> Callable[[Path], object]:
    def write(root: Path) -> None:
        path = root / "splits_mini" / f"{name}.txt"
        path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))

    return write


def copied(source: str, target: str) -> Callable[[Path], object]:
    return lambda root: shutil.copy(first(root, source), max((root / target).iterdir()))


def moved(old: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / old).rename(root / new)


def without(*words: str) -> Callable[[Path], object]:
    def remove(root: Path) -> None:
        for part in ("train", "test"):
            rewritten(
                lambda lines: [x for x in lines if not any(word in x for word in words)], f"sketch_{part}"
            )(root)

    return remove


def nested(root: Path) -> None:
    (root / ANTS / "more").mkdir()
    (root / ANTS / "more" / "1.png").write_bytes(picture(999))


def linked_outside(root: Path) -> None:
    elsewhere = root.with_name("elsewhere.png")
    elsewhere.write_bytes(picture(998))
    (root / ANTS / "out.png").symlink_to(elsewhere)


def transparent() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (8, 8), (9, 9, 9, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def deep() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def large() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(1, "JPEG", exif=exif)


def animated() -> bytes:
    buffer = io.BytesIO()
    frame = Image.open(io.BytesIO(picture(2)))
    frame.save(buffer, "GIF", save_all=True, append_images=[frame.rotate(90)])
    return buffer.getvalue()


def fixed_lists(root: Path) -> None:
    """Lists that test on an image that they train on."""
    for task in ("photo", "sketch"):
        (root.with_name("lists") / task).mkdir(parents=True)
        lines = [f"{task}/{name}/0{n}.png {name}\n" for name in ("ant", "bee", "wasp") for n in range(2)]
        (root.with_name("lists") / task / "train_1-shot.txt").write_text("".join(lines))
        (root.with_name("lists") / task / "test_1-shot.txt").write_text(lines[0])


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40)

FAULTS = {
    "unreadable": Planted("folder", written(lambda: b"not an image at all")),
    "truncated": Planted("folder", written(lambda: picture(3)[:300])),
    "zero_bytes": Planted("folder", written(lambda: b"")),
    "too_large": Planted("folder", written(large)),
    "missing_file": Planted("mini_domainnet", lambda root: first(root).unlink()),
    "outside": Planted("folder", linked_outside, options=("dataset.links=inside",)),
    "bad_name": Planted("folder", moved(ANTS, os.fsdecode(b"sketch/a\xff")), ("class_set",)),
    "bad_line": Planted("mini_domainnet", rewritten(lambda lines: ["sketch/ant", *lines])),
    "swapped_lists": Planted(
        "mini_domainnet",
        rewritten(lambda lines: [x.replace("sketch", "clipart") for x in lines]),
        ("too_few",),
    ),
    "listed_twice": Planted("mini_domainnet", rewritten(lambda lines: [*lines, lines[0]])),
    "label_conflict": Planted("mini_domainnet", rewritten(lambda lines: [*lines[:-1], lines[-1][:-1] + "0"])),
    "missing_class": Planted("mini_domainnet", without("/bee/")),
    "unknown_class": Planted("office_home", lambda root: (root / "Art" / "Mugs and more").mkdir()),
    "empty_class": Planted("folder", lambda root: (root / "sketch" / "moth").mkdir()),
    "long_name": Planted("folder", moved(ANTS, "sketch/" + "very_" * 45 + "ant"), ("class_set",)),
    "same_class": Planted(
        "office_home", lambda root: shutil.copytree(root / "Art" / "TV", root / "Art" / "tv")
    ),
    "other_format": Planted("folder", added("1.heic", lambda: HEIC)),
    "broken_link": Planted("folder", lambda root: (root / ANTS / "1.jpg").symlink_to("gone.jpg")),
    "nested": Planted("folder", nested),
    "stray": Planted("folder", lambda root: (root / "sketch" / "all.png").write_bytes(picture(997))),
    "class_set": Planted("folder", moved(ANTS, "sketch/elephant")),
    "class_name": Planted("folder", moved("sketch/wasp", "sketch/wasps")),
    "portable": Planted("folder", moved(ANTS, "sketch/a\u0308nt"), ("class_set", "class_name")),
    "no_test": Planted(
        "folder",
        lambda root: [x.unlink() for d in (root / "sketch").iterdir() for x in sorted(d.iterdir())[2:]],
    ),
    "too_few": Planted("folder", lambda root: [x.unlink() for x in sorted((root / ANTS).iterdir())[:6]]),
    "duplicate": Planted("folder", copied(ANTS, ANTS)),
    "duplicate_label": Planted("folder", copied(ANTS, BEES)),
    "duplicate_split": Planted("mini_domainnet", copied(ANTS, ANTS)),
    "duplicate_task": Planted("folder", copied(ANTS, "photo/ant")),
    "by_content": Planted("folder", added("1.jfif", lambda: picture(4, "JPEG"))),
    "not_image": Planted("folder", added("notes.txt", lambda: b"ant")),
    "cmyk": Planted("folder", written(lambda: picture(5, "JPEG", "CMYK"))),
    "palette": Planted("folder", written(lambda: picture(6, "PNG", "P"))),
    "grey": Planted("folder", written(lambda: picture(7, "PNG", "L"))),
    "alpha": Planted("folder", written(transparent)),
    "deep": Planted("folder", written(deep)),
    "rotated": Planted("folder", written(rotated)),
    "animated": Planted("folder", written(animated), ("palette",)),
}
"""A fault of every kind but one: ``fixed_lists`` are a study's, see below."""


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, int]]:
    code = execute(["data", "check", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)["counts"]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_a_clean_tree_has_no_faults(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = LAYOUTS[layout](tmp_path / "images")
    assert checked(capsys, *source, "--shots", "6") == (0, {})


def test_every_kind_of_fault_is_planted() -> None:
    assert {*FAULTS, "fixed_lists"} == {*KINDS}


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_every_planted_fault_is_found(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = FAULTS[kind]
    source = LAYOUTS[fault.layout](tmp_path / "images")
    fault.plant(tmp_path / "images")
    code, found = checked(capsys, *source, *fault.options, "--shots", "6" if kind == "too_few" else "2")
    assert kind in found and found.keys() <= {kind, *fault.beside}
    assert code == (1 if KINDS[kind].severity == "error" else 0)


def test_fixed_lists_that_a_study_refuses_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, root = folders(tmp_path / "images")
    fixed_lists(tmp_path / "images")
    study = tmp_path / "study.yaml"
    study.write_text("name: fixed\nsplits: [{shots: 1}]\ndataset: {name: folder}\n")
    code, found = checked(capsys, str(study), root, f"dataset.lists={tmp_path / 'lists'}")
    assert (code, found) == (1, {"fixed_lists": 1})
