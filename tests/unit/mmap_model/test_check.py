"""`data check` finds what is planted, each under its name, and nothing in clean images."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.check import Shots, check_source
from mmap_model.data.check.images import inspect
from mmap_model.data.faults import KINDS
from mmap_model.data.generated import write_mini_domainnet, write_office_home
from mmap_model.data.sources import list_source, open_source
from mmap_model.data.sources.excluded import FILE, add_excluded
from mmap_model.errors import DatasetError

CLASSES = ("ant", "cell_phone", "sea_turtle")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_mini_domainnet(tmp_path, tasks=("clipart", "sketch"), classes=CLASSES, per_class=12, side=16)
    return tmp_path


def spec(root: Path, **options) -> DatasetSpec:
    return DatasetSpec(name="mini_domainnet", root=str(root), tasks=("clipart", "sketch"), **options)


def found(root: Path, **options) -> list[tuple[str, str]]:
    source = list_source(spec(root, **options))
    return [(f.kind, f.id or f.where) for f in check_source(source, Shots(largest=6), workers=2).faults]


def image(root: Path, number: int, name: str = "ant", task: str = "clipart") -> Path:
    return root / task / name / f"{task}_{CLASSES.index(name) + 1:03d}_{number:06d}.jpg"


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def deep() -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), 40_000, np.uint16)), "PNG")


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(plain(), "JPEG", exif=exif)


def animated() -> bytes:
    return encoded(plain(), "GIF", save_all=True, append_images=[plain().rotate(90)])


def truncated() -> bytes:
    whole = encoded(plain(), "JPEG")
    return whole[: len(whole) // 2]


PLANTED: dict[str, Callable[[Path], object]] = {
    "unreadable": lambda root: image(root, 1).write_bytes(b"not an image at all"),
    "truncated": lambda root: image(root, 2).write_bytes(truncated()),
    "zero_bytes": lambda root: image(root, 3).write_bytes(b""),
    "missing_file": lambda root: image(root, 4).unlink(),
    "cmyk": lambda root: image(root, 5).write_bytes(encoded(plain("CMYK"), "JPEG")),
    "palette": lambda root: image(root, 6).write_bytes(encoded(plain("P"), "PNG")),
    "deep": lambda root: image(root, 7).write_bytes(deep()),
    "rotated": lambda root: image(root, 8).write_bytes(rotated()),
    "animated": lambda root: image(root, 9, "sea_turtle").write_bytes(animated()),
    "duplicate": lambda root: image(root, 2, "cell_phone").write_bytes(
        image(root, 1, "cell_phone").read_bytes()
    ),
    "duplicate_split": lambda root: image(root, 12, "cell_phone").write_bytes(
        image(root, 3, "cell_phone").read_bytes()
    ),
    "duplicate_label": lambda root: image(root, 5, "cell_phone").write_bytes(
        image(root, 5, "sea_turtle").read_bytes()
    ),
    "duplicate_task": lambda root: image(root, 6, "ant", "sketch").write_bytes(
        image(root, 6, "cell_phone").read_bytes()
    ),
    "missing_class": lambda root: without(root, "sketch", "sea_turtle"),
    "class_name": lambda root: rename(root, "sketch", "cell_phone", "cell_phones", label=7),
    "too_few": lambda root: without(root, "sketch", "000007", "000008", "000009", "000010"),
}


def without(root: Path, task: str, *words: str) -> None:
    for part in ("train", "test"):
        path = root / "splits_mini" / f"{task}_{part}.txt"
        lines = path.read_text().splitlines()
        path.write_text(
            "".join(f"{x}\n" for x in lines if not any(f"/{w}" in x or f"_{w}." in x for w in words))
        )


def rename(root: Path, task: str, old: str, new: str, label: int) -> None:
    (root / task / old).rename(root / task / new)
    for part in ("train", "test"):
        path = root / "splits_mini" / f"{task}_{part}.txt"
        text = path.read_text().replace(f"/{old}/", f"/{new}/")
        lines = (f"{x.rpartition(' ')[0]} {label}" if f"/{new}/" in x else x for x in text.splitlines())
        path.write_text("".join(f"{x}\n" for x in lines))


def test_a_clean_tree_has_no_faults(root: Path) -> None:
    assert found(root) == [] == found(root, test_source="official")


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_every_planted_fault_is_found_by_its_name(root: Path, kind: str) -> None:
    PLANTED[kind](root)
    kinds = {k for k, _ in found(root)}
    beside = {"animated": {"palette"}, "class_name": {"missing_class"}, "deep": set()}.get(kind, set())
    assert kinds - beside == {kind}


def test_all_faults_at_once_are_found_each_where_it_is(root: Path) -> None:
    images = [k for k in PLANTED if k not in ("missing_class", "class_name", "too_few")]
    assert len(images) >= 12
    for kind in images:
        PLANTED[kind](root)
    where = {kind: {w for k, w in found(root) if k == kind} for kind in images}
    name = {kind: f"clipart/ant/clipart_001_{n:06d}.jpg" for n, kind in enumerate(images[:8], 1)}
    where["palette"] -= where["animated"]  # a GIF is both
    assert {kind: where[kind] for kind in images[:8]} == {kind: {i} for kind, i in name.items()}
    assert where["duplicate"] == {"clipart/cell_phone/clipart_002_000002.jpg"}
    assert where["duplicate_split"] == {"clipart/cell_phone/clipart_002_000003.jpg"}, "the test image stays"
    assert where["duplicate_task"] == {"sketch/ant/sketch_001_000006.jpg"}
    assert len(where["duplicate_label"]) == 2


def test_what_is_dropped_is_recorded_obeyed_and_nothing_is_deleted(root: Path) -> None:
    before = open_source(spec(root)).manifest
    for kind in ("unreadable", "truncated", "zero_bytes", "missing_file", "duplicate", "cmyk"):
        PLANTED[kind](root)
    files = {p: p.read_bytes() for p in root.rglob("*.jpg")}
    with pytest.raises(DatasetError, match=r"clipart_001_000004\.jpg is listed and not there"):
        open_source(spec(root))
    faults = check_source(list_source(spec(root))).faults
    record = root / FILE
    assert add_excluded(record, [f for f in faults if f.drops]) == 5
    assert add_excluded(record, [f for f in faults if f.drops]) == 0

    source = open_source(spec(root))
    assert source.manifest != before
    ids = source.ids("clipart")
    gone = [f"clipart/ant/clipart_001_{n:06d}.jpg" for n in (1, 2, 3, 4)]
    assert not set(ids) & {*gone, "clipart/cell_phone/clipart_002_000002.jpg"} and len(ids) == 36 - 5
    assert {f.kind for f in check_source(list_source(spec(root))).faults} == {"cmyk"}
    assert {p: p.read_bytes() for p in root.rglob("*.jpg")} == files
    assert open_dataset(spec(root)).images("clipart", np.arange(31), 8).shape == (31, 3, 8, 8)
    split = source.official("clipart")
    assert split is not None
    assert sorted([*split.train.tolist(), *split.test.tolist()]) == list(range(31))


def test_an_image_that_was_replaced_is_taken_back(root: Path) -> None:
    PLANTED["truncated"](root)
    faults = check_source(list_source(spec(root))).faults
    add_excluded(root / FILE, [f for f in faults if f.drops])
    assert len(open_source(spec(root)).ids("clipart")) == 35
    image(root, 2).write_bytes(encoded(plain(), "JPEG"))
    assert len(open_source(spec(root)).ids("clipart")) == 36


def test_the_record_may_lie_elsewhere_and_must_be_one(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.json"
    with pytest.raises(DatasetError, match="does not exist"):
        open_source(spec(root, excluded=str(elsewhere)))
    elsewhere.write_text("[]")
    with pytest.raises(DatasetError, match="not a record"):
        open_source(spec(root, excluded=str(elsewhere)))


@pytest.mark.parametrize(
    ("bytes_of", "kinds"),
    [
        (lambda: encoded(plain(), "PNG"), []),
        (lambda: encoded(plain("L"), "JPEG"), ["grey"]),
        (lambda: encoded(plain("CMYK"), "TIFF"), ["cmyk"]),
        (lambda: encoded(plain("RGBA"), "PNG"), []),
        (lambda: encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 9)), "PNG"), ["alpha"]),
        (lambda: encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), ["deep"]),
        (lambda: encoded(plain(), "PNG")[:1000], ["truncated"]),
        (lambda: encoded(plain(), "PNG")[:20], ["unreadable"]),
        (deep, ["deep"]),
        (rotated, ["rotated"]),
        (animated, ["palette", "animated"]),
    ],
)
def test_images_are_told_apart_by_what_they_are(bytes_of, kinds: list[str]) -> None:
    assert [kind for kind, _ in inspect(bytes_of())] == kinds
    assert set(kinds) <= KINDS.keys()


def test_what_a_check_lets_pass_can_be_read(tmp_path: Path) -> None:
    write_office_home(tmp_path, tasks=("art",), classes=("Mug", "TV"), per_class=4, side=8)
    values = {"1": deep(), "2": encoded(plain("P"), "PNG"), "3": animated(), "4": rotated()}
    for number, content in values.items():
        (tmp_path / "Art" / "Mug" / f"0000{number}.jpg").write_bytes(content)
    dataset = open_dataset(
        DatasetSpec(name="office_home", root=str(tmp_path), tasks=("art",), classes=("mug", "tv"))
    )
    pixels = dataset.images("art", np.arange(4), 8)
    assert pixels[0].unique().tolist() == [round(40_000 / 257)], "16 bits are scaled, not cut off"
    assert all(pixels[n].float().std() > 0 for n in (1, 2, 3))


def test_names_that_differ_in_writing_are_told_apart_from_other_classes(tmp_path: Path) -> None:
    for domain, classes in (("a", ("alarm_clock", "mug", "pen")), ("b", ("Alarm Clock", "mug", "zebra"))):
        for name in classes:
            folder = tmp_path / domain / name
            folder.mkdir(parents=True)
            (folder / "1.png").write_bytes(
                encoded(Image.new("RGB", (4, 4), (len(name), ord(domain), 3)), "PNG")
            )
    source = list_source(DatasetSpec(name="folder", root=str(tmp_path)))
    faults = check_source(source).faults
    assert [(f.kind, f.where) for f in faults if f.kind.startswith("class")] == [
        ("class_name", "class 'Alarm Clock'"),
        ("class_set", "class 'pen'"),
        ("class_set", "class 'zebra'"),
    ]


def test_scarce_classes_are_told_with_what_they_get(root: Path) -> None:
    source = list_source(spec(root))
    faults = check_source(source, Shots(largest=8)).faults
    assert len(faults) == 6 and {f.kind for f in faults} == {"too_few"}
    assert faults[0].problem == (
        "class 'ant' has 12 images for 8 to train and 4 to validate: 8 train, 3 validate, 1 test"
    )
    assert check_source(source, Shots(largest=11, protocol="paper")).faults == ()
    official = check_source(source, Shots(largest=8, protocol="paper", official=True))
    assert len(official.faults) == 0 and official.passed
