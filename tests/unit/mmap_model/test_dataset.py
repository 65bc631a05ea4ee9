"""Folder trees, the embedded benchmark, and what errors say."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from mmap_model.data import DatasetSpec, dataset_summary, open_dataset
from mmap_model.data.bank import ImageBank
from mmap_model.data.store import open_or_write
from mmap_model.errors import DatasetError


def write_image(path, size=(40, 30), colour=(200, 10, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


@pytest.fixture
def tree(tmp_path):
    for domain in ("real", "art"):
        for name in ("Alarm_Clock", "mug"):
            for n in range(3):
                write_image(tmp_path / domain / name / f"{n}.png")
    write_image(tmp_path / "real" / "zebra" / "0.jpg")
    (tmp_path / "real" / "mug" / ".hidden.png").write_bytes(b"")
    (tmp_path / "real" / "mug" / "notes.txt").write_text("not an image")
    (tmp_path / "README.md").write_text("not a domain")
    return tmp_path


def folder(root, **options):
    return open_dataset(DatasetSpec(name="folder", root=str(root), **options))


def test_folder_tasks_classes_and_labels(tree):
    found = folder(tree).summary
    assert [t.name for t in found.tasks] == ["art", "real"]
    assert found.tasks[0].classes == ("Alarm Clock", "mug")
    assert found.tasks[1].classes == ("Alarm Clock", "mug", "zebra")
    assert found.images_per_class == ((3, 3), (3, 3, 1))


def test_tasks_may_be_chosen_and_ordered(tree):
    both = folder(tree, tasks=("real", "art"))
    assert [t.name for t in both.tasks] == ["real", "art"]
    assert both.manifest != folder(tree).manifest
    with pytest.raises(DatasetError, match="did you mean 'real'"):
        folder(tree, tasks=("reall",))


def test_manifest_follows_the_files_not_their_place(tree, tmp_path):
    before = folder(tree).manifest
    moved = tree.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    assert folder(moved).manifest == before
    write_image(moved / "art" / "mug" / "3.png")
    assert folder(moved).manifest != before


def test_images_are_upright_rgb_centre_crops(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("L", (64, 32), 0)
    image.paste(255, (32, 0, 64, 32))
    for name in ("a", "b"):
        path = tmp_path / "d" / name / "x.png"
        path.parent.mkdir(parents=True)
        image.save(path, exif=exif)
    pixels = folder(tmp_path).images("d", np.array([0, 1]), 16)
    assert pixels.dtype == torch.uint8 and pixels.shape == (2, 3, 16, 16)
    assert pixels[0, :, 2].float().mean() < 20 and pixels[0, :, -3].float().mean() > 235


def test_training_images_keep_the_whole_picture(tmp_path):
    for name, size in (("a", (40, 20)), ("b", (400, 200))):
        write_image(tmp_path / "d" / name / "x.png", size)
    pixels = folder(tmp_path).training_pixels([np.array([0, 1])], 32)
    rows = np.array([0, 1])
    assert pixels.extents(rows).tolist() == [[20, 40], [200, 400]]
    small, large = pixels.images(rows)
    assert small.shape == (20, 40, 3) and small[..., 0].mean() == 200
    assert large.shape == (139, 277, 3), "the smallest crop, of 69 pixels, comes to 48 for a view of 32"


def test_large_images_are_known_from_their_headers(tmp_path):
    for name, size in (("a", (40, 20)), ("b", (100, 200))):
        write_image(tmp_path / "d" / name / "x.png", size)
    dataset = folder(tmp_path)
    assert dataset.has_images_of(200) and not dataset.has_images_of(201)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: [p.unlink() for p in (root / "real" / "mug").glob("*.png")], "mug holds no image"),
        (lambda root: write_image(root / "art" / "Alarm Clock" / "0.png"), "same name"),
        (lambda root: write_image(root / "lone" / "cat" / "0.png"), "'lone' has 1 class"),
    ],
)
def test_broken_trees_are_refused(tree, break_it, message):
    break_it(tree)
    with pytest.raises(DatasetError, match=message):
        folder(tree)


def test_missing_root_and_unknown_names_are_refused(tmp_path):
    for spec, message in [
        (DatasetSpec(name="folder"), "no root"),
        (DatasetSpec(name="folder", root=str(tmp_path / "nowhere")), "not a folder"),
        (DatasetSpec(name="folder", root=str(tmp_path)), "no domain folders"),
        (DatasetSpec(name="symbol"), "did you mean 'symbols'"),
        (DatasetSpec(root="/data"), "renders its own"),
    ]:
        with pytest.raises(DatasetError, match=message):
            open_dataset(spec, tmp_path)


def test_an_undecodable_image_is_named(tree):
    (tree / "art" / "mug" / "1.png").write_bytes(b"nonsense")
    with pytest.raises(DatasetError, match=r"mug.1\.png cannot be decoded"):
        folder(tree).images("art", np.arange(6), 8)


def test_summary_does_not_import_torch(tree):
    code = (
        "import sys, json; from mmap_model.data import DatasetSpec, dataset_summary;"
        f"s = dataset_summary(DatasetSpec(name='folder', root={str(tree)!r}));"
        "print(json.dumps(['torch' in sys.modules, s.manifest]))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(out) == [
        False,
        dataset_summary(DatasetSpec(name="folder", root=str(tree))).manifest,
    ]


def test_store_is_made_once_and_mapped(tmp_path):
    images = np.arange(5 * 2 * 2 * 3, dtype=np.uint8).reshape(5, 2, 2, 3)
    made = []

    def make():
        made.append(1)
        tasks = {"b": (images, np.arange(5)), "a": (images[:2] + 1, np.array([7, 8]))}
        return tasks, {"sha256": {"a": "x"}}

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_or_write(tmp_path / "s.arrow", make), range(4)))
    assert len(made) == 1
    for store in stores:
        assert list(store.tasks) == ["b", "a"] and store.metadata == {"sha256": {"a": "x"}}
        assert np.array_equal(store.tasks["b"][0], images)
        assert np.array_equal(store.tasks["a"][0], images[:2] + 1)
        assert store.tasks["a"][1].tolist() == [7, 8]
        assert not store.tasks["b"][0].flags.writeable
    assert not list(tmp_path.glob("*.partial"))


def test_an_interrupted_store_is_made_again(tmp_path):
    def fail():
        raise RuntimeError("rendering stopped")

    with pytest.raises(RuntimeError):
        open_or_write(tmp_path / "s.arrow", fail)
    image = np.zeros((1, 1, 1, 3), np.uint8)
    assert open_or_write(tmp_path / "s.arrow", lambda: ({"a": (image, np.array([0]))}, {})).tasks


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_bank_delivers_the_same_rows_from_memory_and_from_files(limit):
    def fetch(task, indices):
        values = torch.from_numpy(100 * task + indices).to(torch.uint8)
        return values.view(-1, 1, 1, 1).expand(-1, 3, 2, 2), torch.full((len(indices), 2), 2)

    wanted = [[np.array([4, 2]), np.array([9])], [np.array([2, 7]), np.array([9, 3])]]
    bank = ImageBank(fetch, wanted, device="cpu", limit=limit)
    assert bank.in_memory == (limit > 0)
    rows = np.concatenate([bank.rows(1, np.array([9, 3])), bank.rows(0, np.array([7, 2, 7]))])
    images, extents = bank.take(rows)
    assert images[:, 0, 0, 0].tolist() == [109, 103, 7, 2, 7]
    assert images.shape == (5, 3, 2, 2) and extents.shape == (5, 2)
