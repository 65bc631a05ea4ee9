"""Prepared stores: the same bytes however often writing was interrupted, the same images as their source."""

import hashlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmap_model.data import DatasetSpec, TaskInfo
from mmap_model.data.dataset import OfficialSplit
from mmap_model.data.prepared.layout import MANIFEST
from mmap_model.data.prepared.store import LocalFiles, Store
from mmap_model.data.prepared.writer import plan_store, verify_store, write_store
from mmap_model.data.sourced import SourceDataset
from mmap_model.data.sources.base import Source
from mmap_model.data.stored import StoredSource, default_store, find_store
from mmap_model.errors import DatasetError
from mmap_model.preprocessing import Resize

SIDE = 16


def encoded(seed, width, height, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **{"format": "JPEG", "quality": 90, **options})
    return file.getvalue()


class MemorySource(Source):
    """Two tasks of unequal class lists; reading may be made to fail after some images."""

    name = "folder"

    def __init__(self, per_class=3):
        self.tasks = (TaskInfo("art", ("fan", "mug")), TaskInfo("real", ("fan", "mug", "tv")))
        self.images = {
            task.name: {
                f"{task.name}/{name}/{n}.jpg": encoded(100 * len(name) + n, 40 + 3 * n, 30, format="PNG")
                for name in task.classes
                for n in range(per_class)
            }
            for task in self.tasks
        }
        self.per_class, self.reads, self.fail_after = per_class, 0, None

    def class_keys(self, task):
        return tuple(name.upper() for name in next(t for t in self.tasks if t.name == task).classes)

    def ids(self, task):
        return list(self.images[task])

    def labels(self, task):
        return np.arange(len(self.images[task])) // self.per_class

    def sizes(self, task):
        return np.array([len(image) for image in self.images[task].values()])

    def read(self, task, index):
        self.reads += 1
        if self.fail_after is not None and self.reads > self.fail_after:
            raise RuntimeError("killed")
        return list(self.images[task].values())[index]

    def location(self, task, index):
        return f"memory/{self.ids(task)[index]}"

    def official(self, task):
        return (
            OfficialSplit(np.array([0, 2]), np.delete(np.arange(len(self.ids(task))), [0, 2]))
            if task == "art"
            else None
        )


def prepare(source, folder, **options):
    plan = plan_store(source, side=SIDE, part_images=4, **options)
    return write_store(source, folder, plan)


def files_of(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def stored(folder, **options):
    return StoredSource(Store(LocalFiles(folder)), DatasetSpec(name="folder", **options))


def test_a_store_gives_what_its_source_gives(tmp_path):
    source = MemorySource()
    prepare(source, tmp_path)
    found = stored(tmp_path)
    assert found.tasks == source.tasks and found.manifest == source.manifest
    for task in ("art", "real"):
        assert list(found.ids(task)) == source.ids(task)
        assert found.labels(task).tolist() == source.labels(task).tolist()
        assert found.sizes(task).tolist() == source.sizes(task).tolist()
        assert found.class_keys(task) == source.class_keys(task)
        for index in range(len(source.ids(task))):
            assert found.read(task, index) == source.read(task, index)
    assert found.official("art").train.tolist() == [0, 2]
    assert found.official("art").test.tolist() == [1, 3, 4, 5]
    assert found.official("real") is None


def test_views_from_a_store_equal_those_made_from_the_images(tmp_path):
    source = MemorySource()
    prepare(source, tmp_path, evaluated=frozenset({"art"}))
    spec = DatasetSpec(name="folder")
    direct, from_store = (SourceDataset(s, spec, tmp_path) for s in (source, stored(tmp_path)))
    for task in ("art", "real"):
        indices = np.array([5, 0, 4, 0])
        for size in (SIDE, 12):
            assert torch.equal(from_store.images(task, indices, size), direct.images(task, indices, size))
    wanted, rows = [np.array([0, 4, 5]), np.array([1, 3])], np.arange(5)
    # Caches of their own, or one would read what the other decoded.
    for caches in (tmp_path / "direct", tmp_path / "stored"):
        caches.mkdir()
    theirs, ours = (
        SourceDataset(s, spec, tmp_path / name).training_pixels(wanted, 8)
        for s, name in ((source, "direct"), (stored(tmp_path), "stored"))
    )
    assert all(map(np.array_equal, theirs.images(rows), ours.images(rows)))
    assert stored(tmp_path).evaluation("art", np.array([0]), SIDE) is not None
    assert stored(tmp_path).evaluation("real", np.array([0]), SIDE) is None
    assert stored(tmp_path).evaluation("art", np.array([0]), 12) is None


@pytest.mark.parametrize(
    "resize", [Resize("squash"), Resize("longest"), Resize(interpolation="bilinear")], ids=str
)
def test_views_of_a_backbone_with_its_own_preprocessing_do_not_come_from_a_store(tmp_path, resize):
    source = MemorySource()
    prepare(source, tmp_path)
    spec = DatasetSpec(name="folder")
    direct, from_store = (SourceDataset(s, spec, tmp_path) for s in (source, stored(tmp_path)))
    indices = np.array([5, 0, 4])
    assert from_store.ready(SIDE) and not from_store.ready(SIDE, resize)
    views = from_store.views("art", indices, SIDE, resize)
    assert torch.equal(views, direct.views("art", indices, SIDE, resize))
    assert not torch.equal(views, from_store.images("art", indices, SIDE))
    assert torch.equal(
        from_store.views("art", indices, SIDE, Resize()), from_store.images("art", indices, SIDE)
    )


@pytest.mark.parametrize(("reads", "kept"), [(0, 0), (3, 0), (4, 4), (13, 10)])
def test_an_interrupted_store_goes_on_and_comes_out_the_same(tmp_path, reads, kept):
    whole = prepare(MemorySource(), tmp_path / "whole")
    source = MemorySource()
    source.fail_after = reads
    with pytest.raises(RuntimeError, match="killed"):
        prepare(source, tmp_path / "parts")
    with pytest.raises(DatasetError, match="not a whole store"):
        stored(tmp_path / "parts")
    again = MemorySource()
    assert prepare(again, tmp_path / "parts") == whole
    assert again.reads == 15 - kept, "whole parts are not read again"
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert prepare(again, tmp_path / "parts") == whole and again.reads <= 15


def test_a_part_that_lost_its_bytes_is_written_again(tmp_path):
    whole = prepare(MemorySource(), tmp_path / "whole")
    source = MemorySource()
    source.fail_after = 13
    with pytest.raises(RuntimeError):
        prepare(source, tmp_path / "parts")
    (tmp_path / "parts" / "evaluation" / "0-000000.arrow").write_bytes(b"")
    assert prepare(MemorySource(), tmp_path / "parts") == whole


def test_a_changed_source_starts_over_and_a_finished_store_is_kept(tmp_path):
    source = MemorySource()
    source.fail_after = 9
    with pytest.raises(RuntimeError):
        prepare(source, tmp_path)
    prepare(MemorySource(per_class=4), tmp_path)
    assert len(stored(tmp_path).ids("art")) == 8
    with pytest.raises(DatasetError, match="store of other images"):
        prepare(MemorySource(), tmp_path)


def test_a_store_does_not_mix_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"thesis\.tex"):
        prepare(MemorySource(), tmp_path)
    (tmp_path / "other" / "originals").mkdir(parents=True)
    with pytest.raises(DatasetError, match="without a plan"):
        prepare(MemorySource(), tmp_path / "other")


def test_an_undecodable_image_is_named_and_the_rest_kept(tmp_path):
    source = MemorySource()
    name = source.ids("real")[7]
    source.images["real"][name] = b"nonsense"
    with pytest.raises(DatasetError, match=f"memory/{name} cannot be decoded"):
        prepare(source, tmp_path)
    assert len(list((tmp_path / "rows").iterdir())) == 3


def test_damage_is_found(tmp_path):
    prepare(MemorySource(), tmp_path)
    assert verify_store(tmp_path) == []
    path = tmp_path / "originals" / "1-000001.arrow"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    (tmp_path / "evaluation" / "0-000000.arrow").unlink()
    assert sorted(verify_store(tmp_path)) == ["evaluation/0-000000.arrow", "originals/1-000001.arrow"]


def test_the_manifest_counts_and_sizes(tmp_path):
    prepare(MemorySource(), tmp_path)
    document = json.loads((tmp_path / MANIFEST).read_text())
    assert document["images"] == 15
    assert document["bytes"]["evaluation"] >= 15 * 3 * SIDE * SIDE
    for view in ("originals", "evaluation"):
        on_disk = sum(path.stat().st_size for path in (tmp_path / view).iterdir())
        assert document["bytes"][view] == on_disk


def test_a_default_store_is_found_also_for_some_of_its_tasks(tmp_path):
    source = MemorySource()
    spec = DatasetSpec(name="folder")
    assert find_store(tmp_path, source, spec) is None
    prepare(source, default_store(tmp_path, source))
    assert find_store(tmp_path, source, spec) is not None
    part = MemorySource()
    part.tasks = part.tasks[1:]
    assert find_store(tmp_path, part, DatasetSpec(name="folder", tasks=("real",))) is not None
    other = MemorySource(per_class=2)
    assert find_store(tmp_path, other, spec) is None


def test_a_store_of_something_else_is_refused(tmp_path):
    prepare(MemorySource(), tmp_path)
    with pytest.raises(DatasetError, match="prepared from 'folder'"):
        StoredSource(Store(LocalFiles(tmp_path)), DatasetSpec(name="office_home"))
    with pytest.raises(DatasetError, match="did you mean 'real'"):
        stored(tmp_path, tasks=("reel",))
    document = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**document, "format": 0}))
    with pytest.raises(DatasetError, match="format 0"):
        stored(tmp_path)
