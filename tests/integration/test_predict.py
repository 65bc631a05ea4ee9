"""Labelling a folder of 2,000 images: in constant memory, killed in the middle, and over a local Ray.

uv run pytest -m "slow or not slow" tests/integration/test_predict.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from orchestrator.cli.main import execute
from orchestrator.ledger.storage import LocalStorage
from orchestrator.tables.words import integer

ROOT = Path(__file__).parents[2]
PART = 200
GROWTH = 24 * 2**20
"""Bytes that a run over four times as many images may take more: less than those images' pixels."""


def make_images(folder: Path, count: int) -> None:
    """JPEGs of 20 to 84 pixels; of every 97 one is broken in one of three ways, one odd in one of five."""
    folder.mkdir()
    rng = np.random.default_rng(count)
    for number in range(count):
        height, width = rng.integers(20, 84, 2)
        path = folder / f"{number:05}.jpg"
        if number % 97 == 61:
            continue  # the copy of an odd one
        if number % 97 == 50:
            path.write_bytes([b"", b"no image", b"\xff\xd8\xff\xe0 cut"][number % 3])
        elif number % 97 == 60:
            make_odd(path, rng.integers(0, 256, (height, width, 3), dtype=np.uint8), number % 5)
        else:
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def make_odd(path: Path, pixels: Any, kind: int) -> None:
    """An image that is not RGB as it lies, and its RGB copy in place of the image after it."""
    image = Image.fromarray(pixels)
    deep = pixels[:, :, 0].astype(np.uint16) * 257
    form, odd = [
        ("TIFF", image.convert("CMYK")),
        ("PNG", Image.fromarray(deep)),
        ("PNG", image.quantize(32)),
        ("GIF", image.quantize(32)),
        ("PNG", image),
    ][kind]
    copy = Image.fromarray(pixels[:, :, 0]) if kind == 1 else odd
    more: dict[str, Any] = {}
    if kind == 3:
        more = {"save_all": True, "append_images": [odd.rotate(180)], "duration": 10, "loop": 0}
    if kind == 4:
        exif = image.getexif()
        exif[274] = 6
        more, copy = {"exif": exif}, image.transpose(Image.Transpose.ROTATE_270)
    odd.save(path, form, **more)
    copy.convert("RGB").save(path.with_name(f"{int(path.stem) + 1:05}.jpg"), "PNG")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``all`` with 2,000 images, ``some`` with 500."""
    folder = tmp_path_factory.mktemp("images")
    make_images(folder / "all", 2000)
    make_images(folder / "some", 500)
    return folder


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "orchestrator", "predict", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


def finish(process: subprocess.Popen[str], code: int) -> tuple[str, int]:
    """What a process printed, and the most memory that it took, in bytes."""
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == code, output
    return output, usage.ru_maxrss * 1024


def parts(out: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(path.name for path in Path(f"{out}.parts").glob("[0-9]*.parquet"))
    return []


def rows(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def assert_same(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> None:
    assert [row["image"] for row in found] == [row["image"] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert (one["error"], one["task"], one["label"]) == (other["error"], other["task"], other["label"])
        if one["error"] is None:
            assert one["top_probabilities"] == pytest.approx(other["top_probabilities"], abs=1e-5)


@pytest.mark.slow
def test_a_killed_run_over_2000_images_goes_on_from_committed_parts_in_the_memory_of_500(
    tiny_artefact: Path, images: Path, tmp_path: Path
) -> None:
    options = ("--task", "photo", "--part", PART, "--batch", 50, "--out")
    _, memory_of_500 = finish(start(tiny_artefact, images / "some", *options, tmp_path / "some.parquet"), 1)
    out = tmp_path / "all.parquet"
    killed = start(tiny_artefact, images / "all", *options, out)
    while len(parts(out)) < 3:
        assert killed.poll() is None, killed.stdout and killed.stdout.read()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    committed = parts(out)
    assert 3 <= len(committed) < 10 and not out.exists()
    output, memory_of_2000 = finish(start(tiny_artefact, images / "all", *options, out), 1)
    assert f"Resuming: {integer(len(committed) * PART)} of" in output, output
    assert not Path(f"{out}.parts").exists()
    found = rows(out)
    assert [row["image"] for row in found] == sorted(str(path) for path in (images / "all").iterdir())
    broken = {number for number in range(2000) if number % 97 == 50}
    assert {number for number, row in enumerate(found) if row["error"]} == broken
    odd = [number for number in range(1999) if number % 97 == 60]
    assert {number % 5 for number in odd} == set(range(5))
    for number in odd:
        one, copy = found[number], found[number + 1]
        assert one["label"] == copy["label"] is not None
        assert one["top_probabilities"] == pytest.approx(copy["top_probabilities"], abs=1e-5)
    assert memory_of_2000 < memory_of_500 + GROWTH


@pytest.fixture
def locally(tiny_artefact: Path, images: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Rows of ``some`` without Ray."""
    out = tmp_path / "local.parquet"
    assert predict(tiny_artefact, images / "some", "--out", out) == 1
    return rows(out)


def predict(*arguments: object) -> int:
    options = ("--task", "auto", "--part", 100, "--batch", 32)
    return execute(["predict", *map(str, arguments), *map(str, options)])


@pytest.mark.ray
def test_over_ray_there_are_the_same_rows(
    shared_ray: Path, tiny_artefact: Path, images: Path, locally: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "ray.parquet"
    assert predict(tiny_artefact, images / "some", "--ray", "--workers", 2, "--out", out) == 1
    assert_same(rows(out), locally)


@pytest.mark.slow
@pytest.mark.ray
def test_over_ray_rows_of_tables_are_labelled_and_what_workers_refuse_is_said(
    shared_ray: Path,
    tiny_artefact: Path,
    images: Path,
    locally: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "t.parquet"
    encoded = [path.read_bytes() for path in sorted((images / "some").iterdir())]
    pq.write_table(pa.table({"image": encoded}), table, row_group_size=120)
    assert predict(tiny_artefact, table, "--ray", "--out", tmp_path / "tr.parquet") == 1
    found = rows(tmp_path / "tr.parquet")
    assert [row["image"] for row in found] == [f"{table}#{number}" for number in range(500)]
    assert [row["label"] for row in found] == [row["label"] for row in locally]
    assert predict(tiny_artefact, table, "--ray", "--backbone", "local-dir:nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.ray
def test_over_ray_there_are_the_same_rows_when_a_worker_is_killed(
    shared_ray: Path,
    tiny_artefact: Path,
    images: Path,
    locally: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, killed = LocalStorage.write, []

    def writes(storage: LocalStorage, path: str, data: bytes) -> None:
        write(storage, path, data)
        if path.endswith(".parquet") and not killed:
            killed.extend(kill_one())

    monkeypatch.setattr(LocalStorage, "write", writes)
    out = tmp_path / "ray.parquet"
    assert predict(tiny_artefact, images / "some", "--ray", "--workers", 2, "--out", out) == 1
    assert killed, "a worker was there to be killed"
    assert_same(rows(out), locally)


def kill_one() -> Iterator[int]:
    """End one worker of this process's Ray that labels."""
    ours = {os.getpid()}
    titles: dict[int, str] = {}
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):
            pid, parent = int(folder.name), (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) in ours:  # parents have lower numbers, as processes are few
                ours.add(pid)
                titles[pid] = (folder / "cmdline").read_bytes().decode(errors="replace")
    for pid, title in titles.items():
        if title.startswith("ray::") and "LabellingWorker" in title:
            os.kill(pid, signal.SIGKILL)
            yield pid
            return
    print(titles)
