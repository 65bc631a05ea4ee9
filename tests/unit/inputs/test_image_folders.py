"""Trees of images as people bring them: read whatever files are called, and every file left out is named."""

from __future__ import annotations

import io
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec
from mmap_model.data.check import check_source
from mmap_model.data.decoding import open_image
from mmap_model.data.faults import KINDS
from mmap_model.data.generated import write_mini_domainnet, write_office_home
from mmap_model.data.sources import Source, list_source, open_source
from mmap_model.errors import DatasetError, DatasetWarning
from orchestrator.cli.main import execute

HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40)


def picture(seed: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def tree(root: Path, *folders: str, images: int = 4) -> Path:
    """A folder of images for each name, all images different."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for image in range(images):
            (root / folder / f"{image}.png").write_bytes(picture(1000 * number + image))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "images", "art/ant", "art/bee", "photo/ant", "photo/bee")


def listed(root: Path, **more) -> Source:
    return list_source(DatasetSpec(name="folder", root=str(root), **more))


READ = {
    "1.jfif": "JPEG",
    "2.JPE": "JPEG",
    "3": "JPEG",
    "4.jpg_large": "JPEG",
    "5.jpeg@2x": "PNG",
    "6.ppm": "PPM",
    "7.avif": "AVIF",
    "8.dib": "BMP",
    "9.image": "GIF",
    "10.TIFFX": "TIFF",
    "11.webp-": "WEBP",
    "12.png": "JPEG",
}
"""Names, and what the file is."""


def test_images_are_read_whatever_they_are_called(root: Path) -> None:
    for number, (name, kind) in enumerate(READ.items()):
        (root / "art" / "ant" / name).write_bytes(picture(50 + number, kind))
    source = listed(root)
    ids = source.ids("art")
    assert {f"art/ant/{name}" for name in READ} <= {*ids} and len(ids) == 8 + len(READ)
    for name in READ:
        index = ids.index(f"art/ant/{name}")
        assert open_image(io.BytesIO(source.read("art", index)), name).size == (8, 8)
    report = check_source(source)
    assert report.passed
    (told,) = [fault for fault in report.faults if fault.kind == "by_content"]
    assert "11 images such as" in told.problem and told.where == str(root / "art" / "ant")


def test_a_tree_of_usual_names_is_listed_without_a_look_into_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listed(root).manifest
    monkeypatch.setattr("mmap_model.data.sources.listing.known_image", lambda path: 1 / 0)
    assert listed(root).manifest == before
    assert listed(root).faults == ()


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def folder_of_images(path: Path) -> None:
    path.mkdir()
    (path / "1.png").write_bytes(picture(77))


LEFT_OUT: dict[str, tuple[str, Callable[[Path], object], str, str]] = {
    # what: (name within a class folder, how it comes to be, kind of finding, words)
    "heic": ("1.heic", content(HEIC), "other_format", "'1.heic': HEIC; .*heif-convert"),
    "jpeg_xl": ("1.jxl", content(b"\xff\x0a" + bytes(40)), "other_format", "JPEG XL"),
    "raw": ("1.NEF", content(picture(5, "TIFF")), "other_format", "a camera's raw file"),
    "drawing": ("1.svg", content(b"<svg/>"), "other_format", "SVG"),
    "photoshop": ("1.psd", content(b"8BPS" + bytes(40)), "other_format", "Photoshop"),
    "film": ("1.mp4", content(b"\0\0\0\x18ftypisom" + bytes(40)), "other_format", "a film"),
    "archive": ("1.zip", content(b"PK\x03\x04"), "other_format", "unpack it"),
    "pointer": (
        "1.jfif",
        content(b"version https://git-lfs.github.com/spec/v1\n"),
        "other_format",
        "lfs pull",
    ),
    "broken_link": ("1.jpg", link("gone.jpg"), "broken_link", "1 link: '1.jpg'"),
    "link_in_a_circle": ("1.jpg", link("1.jpg"), "broken_link", "1 link: '1.jpg'"),
    "broken_link_of_a_folder": ("more", link("/nowhere/at/all"), "broken_link", "'more'"),
    "folder": ("more", folder_of_images, "nested", "1 folder: 'more'"),
    "folder_called_as_an_image": ("1.png.d", folder_of_images, "nested", "'1.png.d'"),
    "notes": ("labels.txt", content(b"ant"), "not_image", "'labels.txt'"),
    "text_that_begins_like_bmp": ("list", content(b"BMW 3\nBMW 5\n" * 9), "not_image", "'list'"),
    "text_that_begins_like_ppm": ("list", content(b"P1 and P2"), "not_image", "'list'"),
    "nothing": ("empty", content(b""), "not_image", "'empty'"),
    "pipe": ("1.jpg", lambda path: os.mkfifo(path), "not_image", "'1.jpg'"),
}


@pytest.mark.parametrize("what", sorted(LEFT_OUT))
def test_what_is_left_out_of_a_class_is_named(what: str, root: Path) -> None:
    name, make, kind, words = LEFT_OUT[what]
    before = listed(root)
    make(root / "art" / "ant" / name)
    source = listed(root)
    assert source.manifest == before.manifest
    (fault,) = check_source(source).faults
    assert (fault.kind, fault.where, fault.task) == (kind, str(root / "art" / "ant"), "art")
    assert re.search(words, fault.problem), fault.problem
    if KINDS[kind].severity == "warning":
        with pytest.warns(DatasetWarning, match=f"(?s){words}.*data check"):
            open_source(DatasetSpec(name="folder", root=str(root)))


@pytest.mark.parametrize(
    "name", [".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini", "Icon\r", "@eaDir/1.jpg", "__MACOSX/1.jpg"]
)
def test_what_systems_leave_in_folders_is_passed_over(name: str, root: Path) -> None:
    for folder in (root, root / "art", root / "art" / "ant"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(DatasetSpec(name="folder", root=str(root)))
    assert check_source(source).faults == () and len(source.ids("art")) == 8


@pytest.mark.parametrize("place", ["", "art"])
def test_images_and_broken_links_beside_class_folders_are_named(place: str, root: Path) -> None:
    (root / place / "montage.png").write_bytes(picture(9))
    (root / place / "wasp").symlink_to("/nowhere/at/all")
    found = {fault.kind: fault.where for fault in check_source(listed(root)).faults}
    assert found == {"stray": str(root / place), "broken_link": str(root / place)}


def test_half_a_class_of_other_files_is_told_once_with_their_number(root: Path, capsys) -> None:
    for number in range(40):
        (root / "art" / "ant" / f"{number:03d}.HEIC").write_bytes(HEIC)
    assert execute(["data", "check", "folder", f"dataset.root={root}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "40 files such as '000.HEIC': HEIC" in said and "heif-convert" in said


def office_home(root: Path) -> DatasetSpec:
    write_office_home(root, tasks=("art",), classes=("Mug", "TV"), per_class=4, side=8)
    return DatasetSpec(name="office_home", root=str(root), tasks=("art",), classes=("Mug", "TV"))


def test_office_home_names_what_it_leaves_out_too(tmp_path: Path) -> None:
    spec = office_home(tmp_path)
    (tmp_path / "Art" / "Mug" / "9.heic").write_bytes(HEIC)
    (tmp_path / "Art" / "Mug" / "9.jfif").write_bytes(picture(9, "JPEG"))
    source = list_source(spec)
    assert "art/Mug/9.jfif" in source.ids("art")
    assert {fault.kind for fault in source.faults} == {"other_format", "by_content"}


def test_a_listed_link_that_leads_nowhere_is_missing(tmp_path: Path) -> None:
    write_mini_domainnet(tmp_path, tasks=("sketch",), classes=("ant", "bee"), per_class=4, side=8)
    image = next((tmp_path / "sketch" / "ant").iterdir())
    image.unlink()
    image.symlink_to(image.name)
    spec = DatasetSpec(name="mini_domainnet", root=str(tmp_path), tasks=("sketch",))
    assert [fault.kind for fault in list_source(spec).faults] == ["missing_file"]


def test_a_folder_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "bee":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DatasetError, match=r"bee cannot be read: Permission denied"):
        listed(root)


SHAPES: dict[str, tuple[tuple[str, ...], str]] = {
    # what: (folders of images, words)
    "classes": (("ant", "bee"), r"<root>/<class>/<image>.*dataset\.root=\S*/x 'dataset\.tasks=\[\"tree\"\]'"),
    "parts": (
        ("train/ant", "train/bee", "test/ant", "test/bee"),
        r"<root>/train/<class>/<image>|<root>/test/<class>/<image>.*'dataset\.tasks=\[\"tree\"\]'",
    ),
    "parts_of_other_names": (("Training/ant", "Validation/ant"), r"<root>/Training/<class>/<image>"),
    "parts_of_domains": (
        ("train/art/ant", "train/art/bee", "val/art/ant"),
        r"<root>/train/<domain>/<class>/<image>.*<root>/<domain>/train/<class>",
    ),
    "one_folder": ((".",), r"<root>/<image>.*custom_layout\.md"),
    "nothing": ((), r"holds no domain folders.*<root>/<domain>/<class>/<image>"),
    "too_high": (("pacs/art/ant", "pacs/art/bee"), r"<root>/pacs/<domain>.*dataset\.root=\S*/tree/pacs"),
    "too_high_twice": (("a/art/ant", "b/art/ant"), r"<root>/a/<domain>.*a, b are a dataset each"),
}


@pytest.mark.parametrize("what", sorted(SHAPES))
def test_another_shape_is_named_with_the_key_that_describes_it(what: str, tmp_path: Path, capsys) -> None:
    folders, words = SHAPES[what]
    root = tree(tmp_path / "x" / "tree", *folders)
    root.mkdir(parents=True, exist_ok=True)
    with pytest.raises(DatasetError, match=f"(?s){words}"):
        listed(root)
    assert execute(["data", "check", "folder", f"dataset.root={root}"]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "looks like" in said or "holds no domain folders" in said


def test_a_tree_of_classes_is_read_with_the_keys_that_the_message_gives(tmp_path: Path) -> None:
    tree(tmp_path / "birds", "ant", "bee")
    source = listed(tmp_path, tasks=("birds",))
    assert source.tasks[0].classes == ("ant", "bee") and len(source.ids("birds")) == 8


def test_parts_of_a_domain_are_read_together_and_keep_the_published_division(tmp_path: Path) -> None:
    tree(tmp_path / "divided" / "birds", "train/ant", "train/bee", "val/ant", "test/ant", "test/bee")
    divided = listed(tmp_path / "divided")
    assert divided.tasks[0].classes == ("ant", "bee") and len(divided.ids("birds")) == 20
    split = divided.official("birds")
    assert split is not None
    tested = [divided.path("birds", index).parts[-3] for index in split.test.tolist()]
    assert tested == ["test"] * 8 and len(split.train) == 12
    official = DatasetSpec(name="folder", root=str(tmp_path / "divided"), test_source="official")
    assert open_source(official).official("birds") is not None

    shutil.copytree(tmp_path / "divided" / "birds" / "train", tmp_path / "whole" / "birds")
    shutil.rmtree(tmp_path / "divided" / "birds" / "val")
    shutil.rmtree(tmp_path / "divided" / "birds" / "test")
    assert listed(tmp_path / "divided").manifest == listed(tmp_path / "whole").manifest


def test_folders_called_train_and_test_are_tasks_where_the_study_says_so(tmp_path: Path) -> None:
    tree(tmp_path, "train/ant", "train/bee", "test/ant", "test/bee")
    source = listed(tmp_path, tasks=("train", "test"))
    assert [task.name for task in source.tasks] == ["train", "test"]


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    source = listed(tree(tmp_path, "exams/test", "exams/training"))
    assert source.tasks[0].classes == ("test", "training")


def test_each_domain_of_another_shape_is_told_by_what_it_holds(root: Path) -> None:
    tree(root, "clipart", "product")
    tree(root, "sketch/deep/ant")
    (root / "quickdraw").mkdir()
    said = {fault.task: fault.problem for fault in listed(root).faults if fault.kind == "empty_class"}
    assert said.keys() == {"clipart", "product", "sketch", "quickdraw"}
    assert "holds images itself" in said["clipart"] and "holds images itself" in said["product"]
    assert "one folder deeper" in said["sketch"]
