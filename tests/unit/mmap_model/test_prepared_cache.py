"""What a machine keeps: remote stores as far as they are read, decoded training images, within a limit."""

import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec
from mmap_model.data.augment import Augmentation
from mmap_model.data.decoding import training_original
from mmap_model.data.extents import longest_side
from mmap_model.data.prepared import pixels as pixels_module
from mmap_model.data.prepared.cache import cache_limit, make_room
from mmap_model.data.prepared.pixels import training_pixels
from mmap_model.data.prepared.remote import RemoteFiles, upload
from mmap_model.data.prepared.writer import plan_store, write_store
from mmap_model.data.sources import open_source
from mmap_model.data.stored import open_store, stored_source
from mmap_model.errors import DatasetError
from mmap_model.plain import content_key

CROPS = Augmentation(whole_pixels=True)


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
    with pytest.raises(DatasetError, match="is not a location"):
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
    found = training_pixels(source, wanted, 8, CROPS, tmp_path)
    for task, indices in zip(source.tasks, wanted, strict=True):
        number = source.tasks.index(task)
        rows = found.rows(number, indices[::-1])
        for index, extent, pixels in zip(indices[::-1], found.extents(rows), found.images(rows), strict=True):
            with Image.open(source.location(task.name, index)) as image:
                full = (image.height, image.width)
                expected = np.asarray(training_original(image, CROPS.smallest(*full), 8))
            assert np.array_equal(pixels, expected) and extent.tolist() == list(full)
            assert not pixels.flags.writeable
    kept = [image.shape[:2] for image in found.images(np.arange(5))]
    assert kept[:3] == [(30, 40), (33, 40), (32, 40)] and kept[3] == (59, 41), (
        "101 x 70 pixels come to 59 x 41"
    )
    assert found.bytes == 3 * sum(height * width for height, width in kept)
    boxes = found.boxes(np.array([0, 3]), np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 101.0, 70.0]]))
    np.testing.assert_allclose(boxes, [[1, 2, 3, 4], [0, 0, 59, 41]])


def as_recipe_1(source, wanted, size, folder):
    """The file that the first version kept of these images: no longer side was 4 x the size or more."""
    schema = pa.schema([("height", pa.int32()), ("width", pa.int32()), ("image", pa.large_binary())])
    images = []
    for task, indices in zip(source.tasks, wanted, strict=True):
        for index in indices.tolist():
            with Image.open(source.location(task.name, index)) as image:
                images.append(np.asarray(image))
    about = {"images": source.manifest, "of": [w.tolist() for w in wanted], "side": 2 * size, "recipe": 1}
    path = folder / "pixels" / f"{content_key(about)}.arrow"
    path.parent.mkdir(parents=True)
    columns = [[i.shape[0] for i in images], [i.shape[1] for i in images], [i.tobytes() for i in images]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return path


def test_decoded_images_of_the_first_version_are_taken_over_where_it_shrank_none(
    source, tmp_path, monkeypatch
):
    wanted = [np.array([0, 3, 6]), np.array([1, 2])]
    large, small = (as_recipe_1(source, wanted, size, tmp_path / str(size)) for size in (25, 26))
    with monkeypatch.context() as context:
        context.setattr(pixels_module, "open_image", lambda *of: pytest.fail("decoded again"))
        found = training_pixels(source, wanted, 26, CROPS, tmp_path / "26")
    assert found.extents(np.arange(5)).tolist() == [[30, 40], [33, 40], [32, 40], [101, 70], [102, 70]]
    assert not small.exists() and len(list(small.parent.glob("*.arrow"))) == 1
    again = training_pixels(source, wanted, 25, CROPS, tmp_path / "25")
    assert large.exists() and len(list(large.parent.glob("*.arrow"))) == 2, "101 pixels were halved at 25"
    assert again.extents(np.arange(5)).tolist() == found.extents(np.arange(5)).tolist()


def test_the_longest_side_is_read_once_and_no_further_than_needed(source, tmp_path, monkeypatch):
    asked = []
    extents = type(source).extents
    monkeypatch.setattr(
        type(source), "extents", lambda self, task, of: (asked.append(task), extents(self, task, of))[1]
    )
    assert longest_side(source, tmp_path, enough=40) == 40 and asked == ["art"]
    assert longest_side(source, tmp_path, enough=30) == 40 and asked == ["art"]
    assert longest_side(source, tmp_path, enough=500) == 103 and asked == ["art", "art", "real"]
    assert longest_side(source, tmp_path, enough=900) == 103 and len(asked) == 3
    write_store(source, tmp_path / "made", plan_store(source, side=16, part_images=4))
    stored = stored_source(open_store(str(tmp_path / "made"), tmp_path), DatasetSpec(name="folder"))
    for task in ("art", "real"):
        order = np.array([3, 0, 5])
        assert stored.extents(task, order).tolist() == extents(source, task, order).tolist()


def test_images_are_decoded_once_on_a_machine(source, tmp_path, monkeypatch):
    decoded = []
    original = pixels_module.training_original
    monkeypatch.setattr(
        pixels_module, "training_original", lambda *given: (decoded.append(1), original(*given))[1]
    )
    wanted = [np.arange(5), np.arange(3)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: training_pixels(source, wanted, 16, CROPS, tmp_path), range(4)))
    assert len(decoded) == 8
    training_pixels(source, [np.arange(5), np.arange(4)], 16, CROPS, tmp_path)
    assert len(decoded) == 17, "other draws are another file"
    assert not list((tmp_path / "pixels").glob("*.partial"))


def test_a_cache_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "pixels").write_text("a file")
    with pytest.raises(DatasetError, match="MMAP_CACHE_DIR"):
        training_pixels(source, [np.arange(2), np.arange(2)], 16, CROPS, tmp_path)
