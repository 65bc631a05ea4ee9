"""What a machine keeps: remote stores as far as they are read, decoded training images, within a limit."""

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec
from mmap_model.data.decoding import training_original
from mmap_model.data.prepared import pixels as pixels_module
from mmap_model.data.prepared.cache import cache_limit, make_room
from mmap_model.data.prepared.pixels import training_pixels
from mmap_model.data.prepared.remote import RemoteFiles, upload
from mmap_model.data.prepared.writer import plan_store, write_store
from mmap_model.data.sources import open_source
from mmap_model.data.stored import open_store, stored_source
from mmap_model.errors import DatasetError


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for domain, (height, width) in {"art": (30, 40), "real": (100, 70)}.items():
        for name in ("fan", "mug"):
            for n in range(4):
                path = root / domain / name / f"{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (height + n, width, 3), np.uint8)).save(path)
    return open_source(DatasetSpec(name="folder", root=str(root)))


@pytest.fixture
def remote(source, tmp_path):
    write_store(source, tmp_path / "made", plan_store(source, side=16, part_images=4))
    uri = f"fsspec+memory://{secrets.token_hex(4)}/stores/x"
    upload(tmp_path / "made", uri)
    return uri


def test_a_remote_store_gives_the_same_images_and_fetches_only_what_is_read(source, remote, tmp_path):
    store = open_store(remote, tmp_path / "cache")
    found = stored_source(store, DatasetSpec(name="folder"))
    assert found.manifest == source.manifest
    fetched = sorted(p.name for p in (tmp_path / "cache" / "remote").rglob("*.arrow"))
    assert fetched == ["index.arrow"]
    assert found.read("real", 5) == source.read("real", 5)
    assert found.evaluation("art", np.array([1]), 16).shape == (1, 3, 16, 16)
    files = sorted(
        str(p.relative_to(p.parents[1])) for p in (tmp_path / "cache" / "remote").rglob("*-*.arrow")
    )
    assert files == ["evaluation/0-000000.arrow", "originals/1-000001.arrow"]


def test_a_file_is_fetched_once_however_many_ask(remote, tmp_path, monkeypatch):
    fetches, start = [], threading.Barrier(4, timeout=60)
    fetch = RemoteFiles._fetch
    monkeypatch.setattr(
        RemoteFiles, "_fetch", lambda self, name, path: (fetches.append(name), fetch(self, name, path))
    )

    def ask(files):
        start.wait()
        return files.path("originals/0-000000.arrow").read_bytes()

    askers = [RemoteFiles(remote, tmp_path / "cache") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, askers))) == 1
    assert fetches == ["originals/0-000000.arrow"]


def test_a_remote_file_that_was_changed_is_refused(remote, tmp_path):
    import fsspec

    path = f"{remote.removeprefix('fsspec+memory:/')}/originals/0-000000.arrow"
    memory = fsspec.filesystem("memory")
    memory.pipe(path, memory.cat(path)[:-1] + b"!")
    with pytest.raises(DatasetError, match="not what was written"):
        RemoteFiles(remote, tmp_path).path("originals/0-000000.arrow")
    assert not list((tmp_path / "remote").rglob("originals/*.arrow"))


def test_where_no_store_lies_is_said_without_secrets(tmp_path):
    with pytest.raises(DatasetError, match="not a whole store") as error:
        open_store("fsspec+memory://key:secret@nowhere/x", tmp_path)
    assert "secret" not in str(error.value) and "memory://nowhere/x" in str(error.value)
    with pytest.raises(DatasetError, match="is no location"):
        open_store("gopher://nowhere", tmp_path)


def test_upload_goes_on_where_it_stopped(source, tmp_path):
    write_store(source, tmp_path / "made", plan_store(source, side=16, part_images=4))
    uri = f"fsspec+memory://{secrets.token_hex(4)}/x"

    def stop(size):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(tmp_path / "made", uri, stop)
    with pytest.raises(DatasetError, match="not a whole store"):
        open_store(uri, tmp_path)
    sizes = []
    upload(tmp_path / "made", uri, sizes.append)
    assert sum(sizes) == sum(
        p.stat().st_size for p in (tmp_path / "made").rglob("*") if p.is_file() and p.name != ".lock"
    )
    open_store(uri, tmp_path)


def test_the_least_recently_used_goes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAP_CACHE_GB", "1e-6")  # 1000 bytes
    for age, name in enumerate(("new", "used", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(bytes(400))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert make_room(tmp_path, keep=tmp_path / "old") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]
    assert make_room(tmp_path, keep=tmp_path / "old", needed=700) == 100
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_store_that_exceeds_the_cache_is_refused(remote, tmp_path, monkeypatch):
    files = RemoteFiles(remote, tmp_path)
    monkeypatch.setenv("MMAP_CACHE_GB", "1e-6")
    with pytest.raises(DatasetError, match="exceeds the cache"):
        files.path("originals/0-000000.arrow")
    monkeypatch.setenv("MMAP_CACHE_GB", "-1")
    with pytest.raises(DatasetError, match="MMAP_CACHE_GB"):
        cache_limit()


def test_decoded_images_are_the_training_originals(source, tmp_path):
    wanted = [np.array([0, 3, 6]), np.array([1, 2])]
    found = training_pixels(source, wanted, 40, tmp_path)
    for task, indices in zip(source.tasks, wanted, strict=True):
        number = source.tasks.index(task)
        rows = found.rows(number, indices[::-1])
        for index, extent, pixels in zip(indices[::-1], found.extents(rows), found.images(rows), strict=True):
            with Image.open(source.location(task.name, index)) as image:
                expected = np.asarray(training_original(image, 40))
            assert np.array_equal(pixels, expected) and extent.tolist() == list(expected.shape[:2])
            assert not pixels.flags.writeable
    assert found.longest == 51, "102 pixels come to 51"


def test_images_are_decoded_once_on_a_machine(source, tmp_path, monkeypatch):
    decoded = []
    original = pixels_module.training_original
    monkeypatch.setattr(
        pixels_module, "training_original", lambda image, side: (decoded.append(1), original(image, side))[1]
    )
    wanted = [np.arange(5), np.arange(3)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: training_pixels(source, wanted, 40, tmp_path), range(4)))
    assert len(decoded) == 8
    training_pixels(source, [np.arange(5), np.arange(4)], 40, tmp_path)
    assert len(decoded) == 17, "other draws are another file"
    assert not list((tmp_path / "pixels").glob("*.partial"))


def test_a_cache_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "pixels").write_text("a file")
    with pytest.raises(DatasetError, match="MMAP_CACHE_DIR"):
        training_pixels(source, [np.arange(2), np.arange(2)], 40, tmp_path)
