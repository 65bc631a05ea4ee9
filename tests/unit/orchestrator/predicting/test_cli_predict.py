"""The command: every image is a row, equal to what the classifier says of it in Python."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mmap_model
from mmap_model.backbone import BackboneSpec, load_backbone
from mmap_model.checkpoint import DESCRIPTION, TENSORS
from mmap_model.inference.exporting import export
from mmap_model.inference.trained import Trained
from orchestrator.cli.main import execute
from orchestrator.predicting.output import METADATA

BROKEN = {"cut.jpg", "empty.jpg", "text.jpg"}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``x`` with twenty images, odd ones and their RGB copies in ``x/rgb``, and three broken ones."""
    monkeypatch.chdir(tmp_path)
    folder = Path("x")
    (folder / "rgb").mkdir(parents=True)
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> Any:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    for number in range(20):
        level = 200 if number % 2 else 0
        Image.fromarray(noise(20, 30, 3) // 5 + level).save(folder / f"{number:02}.jpg", quality=95)
    colour = Image.fromarray(noise(30, 20, 3))
    odd = {
        "cmyk.tif": colour.convert("CMYK"),
        "palette.png": colour.quantize(64),
        "deep.png": Image.fromarray(noise(20, 20).astype(np.uint16) * 257),
        "alpha.png": colour.convert("RGBA"),
    }
    for name, image in odd.items():
        image.save(folder / name)
        copy = image if name != "deep.png" else Image.fromarray((np.array(image) // 257).astype(np.uint8))
        copy.convert("RGB").save(folder / "rgb" / f"{name}.png")
    frames = [colour.quantize(16), colour.transpose(Image.Transpose.ROTATE_180).quantize(16)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=10, loop=0)
    with Image.open(folder / "moving.gif") as first:
        first.convert("RGB").save(folder / "rgb" / "moving.gif.png")
    exif = colour.getexif()
    exif[274] = 6
    colour.save(folder / "turned.png", exif=exif)
    colour.transpose(Image.Transpose.ROTATE_270).save(folder / "rgb" / "turned.png.png")
    whole = (folder / "00.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no image")
    return folder


def run(*arguments: object) -> int:
    return execute(["predict", *map(str, arguments)])


def rows(path: str) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def test_every_image_is_a_row_and_a_broken_one_says_why(
    images: Path, tiny_artefact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_artefact, images, "--task", "photo", "--out", "p.parquet", "--batch", 7, "--top", 3) == 1
    assert "3 could not be read" in capsys.readouterr().err
    found = rows("p.parquet")
    names = sorted(str(path) for path in images.glob("*.*")) + sorted(
        str(path) for path in images.glob("rgb/*.*")
    )
    assert [row["image"] for row in found] == names
    assert {Path(row["image"]).name for row in found if row["error"]} == BROKEN
    classifier = mmap_model.load(tiny_artefact)
    said = list(classifier.predict(names, task="photo", top=3))
    for row, prediction in zip(found, said, strict=True):
        assert row["task"] == "photo" and row["label"] == prediction.label
        if prediction.error is None:
            assert row["error"] is None and tuple(row["top_labels"]) == prediction.labels
            assert row["probability"] == row["top_probabilities"][0]
            assert row["top_probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)
        else:
            assert row["error"] == prediction.error
            assert row["probability"] is row["top_labels"] is row["top_probabilities"] is None
    by_name = {row["image"]: row for row in found}
    copies = [name for name in names if "/rgb/" in name]
    assert len(copies) == 6
    for copy in copies:
        odd = f"{images}/{Path(copy).name.removesuffix('.png')}"
        assert by_name[odd]["label"] == by_name[copy]["label"]
        assert by_name[odd]["top_probabilities"] == pytest.approx(
            by_name[copy]["top_probabilities"], abs=1e-6
        )


def test_the_origin_is_in_the_file_and_no_row(images: Path, tiny_artefact: Path) -> None:
    for name in ("p.parquet", "p.csv", "p.jsonl"):
        assert run(tiny_artefact, images / "00.jpg", "--task", "sketch", "--out", name) == 0
    origin = json.loads(pq.read_schema("p.parquet").metadata[METADATA])
    assert (
        origin["kind"] == "prompts" and origin["versions"]["torch"] and len(origin["run"]["artefact"]) == 64
    )
    assert json.loads(Path("p.csv.json").read_text())["run"] == origin["run"]
    assert json.loads(Path("p.jsonl.json").read_text())["run"] == origin["run"]
    assert len(Path("p.jsonl").read_text().splitlines()) == 1
    header, row = Path("p.csv").read_text().splitlines()
    assert header == '"image","task","label","probability","top_labels","top_probabilities","error"'
    assert row.startswith(f'"{images}/00.jpg","sketch",')


def test_auto_chooses_the_task_by_the_image_and_says_how_sure_it_is(
    images: Path, tiny_artefact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_artefact, images, "--task", "auto", "--out", "p.parquet", "--batch", 5) == 1
    assert "softmax of cosines at the CLIP's logit scale" in " ".join(capsys.readouterr().err.split())
    found = {Path(row["image"]).name: row for row in rows("p.parquet") if "/rgb/" not in row["image"]}
    classifier = mmap_model.load(tiny_artefact)
    for number in range(20):
        row = found[f"{number:02}.jpg"]
        assert row["task"] == ("photo" if number % 2 else "sketch")
        assert 0.5 < row["task_confidence"] <= 1
        (alone,) = classifier.predict(row["image"], task=row["task"])
        assert tuple(row["top_labels"]) == alone.labels
        assert row["top_probabilities"] == pytest.approx(alone.probabilities, abs=1e-6)
    for name in BROKEN:
        assert found[name]["error"] and found[name]["task"] is found[name]["task_confidence"] is None


def test_other_classes_take_the_place_of_the_tasks_own(images: Path, tiny_artefact: Path) -> None:
    Path("new.txt").write_text("zebra\n\n  dog \nlighthouse\n", encoding="utf-8-sig")
    line = (tiny_artefact, images / "00.jpg", images / "01.jpg", "--classes", "new.txt")
    assert run(*line, "--task", "sketch", "--out", "p.parquet") == 0
    wanted = mmap_model.load(tiny_artefact).with_classes(["zebra", "dog", "lighthouse"], task="sketch")
    said = list(wanted.predict([images / "00.jpg", images / "01.jpg"], task="sketch"))
    assert [tuple(row["top_labels"]) for row in rows("p.parquet")] == [one.labels for one in said]
    assert run(*line, "--task", "auto", "--out", "auto.parquet") == 0
    for row in rows("auto.parquet"):
        assert set(row["top_labels"]) == {"zebra", "dog", "lighthouse"}


def test_without_out_rows_are_text(
    images: Path, tiny_artefact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_artefact, images / "00.jpg", images / "empty.jpg", "--task", "photo") == 1
    good, bad = capsys.readouterr().out.splitlines()
    (said,) = mmap_model.load(tiny_artefact).predict(images / "00.jpg", task="photo")
    assert good.split("  ")[0] == said.label and good.endswith(f"%  {images}/00.jpg")
    assert bad.startswith("error ") and "empty.jpg" in bad
    assert run(tiny_artefact, images / "01.jpg", "--task", "auto") == 0
    assert "photo" in capsys.readouterr().out
    assert not list(Path().glob("*.parts"))


def test_rows_of_tables_and_names_on_standard_input_are_images(
    images: Path, tiny_artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = [path.read_bytes() for path in sorted(images.glob("*.jpg"))]
    structs = [{"bytes": data, "path": None} for data in encoded] + [{"bytes": None, "path": "a.jpg"}]
    pq.write_table(pa.table({"image": structs, "key": range(len(structs))}), "t.parquet", row_group_size=5)
    assert run(tiny_artefact, "t.parquet", "--task", "photo", "--out", "t.csv", "--batch", 4) == 1
    assert run(tiny_artefact, "t.parquet", "--task", "photo", "--out", "p.parquet", "--batch", 4) == 1
    listed = "\n".join(str(path) for path in sorted(images.glob("*.jpg"))).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(listed)))
    assert run(tiny_artefact, "-", "--task", "photo", "--out", "l.parquet", "--batch", 4) == 1
    of_rows, of_files = rows("p.parquet"), rows("l.parquet")
    assert [row["image"] for row in of_rows] == [f"t.parquet#{n}" for n in range(len(structs))]
    assert of_rows[-1]["error"].endswith("holds no image")
    for one, other in zip(of_rows, of_files, strict=False):
        assert one["top_labels"] == other["top_labels"]
        assert bool(one["error"]) == bool(other["error"])


def test_a_stopped_run_goes_on_and_a_finished_one_is_left_alone(
    images: Path,
    tiny_artefact: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = (tiny_artefact, images, "--task", "photo", "--part", 8, "--batch", 4)
    assert run(*line, "--out", "whole.parquet") == 1
    from orchestrator.ledger.storage import LocalStorage

    write, written = LocalStorage.write, []

    def stops(storage: LocalStorage, path: str, data: bytes) -> None:
        if len(written) == 2 and path.endswith(".parquet"):
            raise KeyboardInterrupt
        write(storage, path, data)
        written.extend([path] if path.endswith(".parquet") else [])

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "write", stops)
        assert run(*line, "--out", "p.parquet") == 130
    assert not Path("p.parquet").exists()
    capsys.readouterr()
    assert run(tiny_artefact, images, "--task", "sketch", "--part", 8, "--out", "p.parquet") == 2
    assert "another --task (photo, now sketch)" in " ".join(capsys.readouterr().err.split())
    assert run(*line[:-1], 3, "--out", "p.parquet") == 1
    assert "Resuming: 16 of 35" in capsys.readouterr().err
    assert not Path("p.parquet.parts").exists()
    for one, other in zip(rows("p.parquet"), rows("whole.parquet"), strict=True):
        assert (one["image"], one["top_labels"], one["error"]) == (
            other["image"],
            other["top_labels"],
            other["error"],
        )
    before = Path("p.parquet").stat().st_mtime_ns
    assert run(*line, "--out", "p.parquet") == 1, "three of its images could not be read"
    assert "complete already" in capsys.readouterr().err
    assert Path("p.parquet").stat().st_mtime_ns == before
    (images / "00.jpg").rename(images / "new.jpg")
    assert run(*line, "--out", "p.parquet") == 2
    assert "another list of images" in " ".join(capsys.readouterr().err.split())
    assert run(*line, "--out", "p.parquet", "--restart") == 1
    assert f"{images}/new.jpg" in {row["image"] for row in rows("p.parquet")}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["x"], "name one of photo, sketch, or auto"),
        (["x", "--task", "art"], "photo, sketch"),
        (["x", "--task", "photo", "--classes", "none.txt"], "none.txt"),
        (["x", "--task", "photo", "--classes", "twice.txt"], "'a' twice"),
        (["x", "--task", "photo", "--classes", "empty.txt"], "names no class"),
        (["x", "--task", "photo", "--out", "p.xlsx"], ".parquet"),
        (["x", "--task", "photo", "--precision", "fp8"], "fp32 or bf16"),
        (["x", "--task", "photo", "--device", "gpu"], "--device"),
        (["x", "--task", "photo", "--device", "cuda:7"], "--device"),
        (["x", "--task", "photo", "--top", "0"], "--top"),
        (["y", "--task", "photo"], "there is no y"),
        (["x", "--task", "photo", "--backbone", "local-dir:nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    images: Path, tiny_artefact: Path, capsys: pytest.CaptureFixture[str], line: list[str], said: str
) -> None:
    Path("twice.txt").write_text("a\nb\na\n")
    Path("empty.txt").write_text("\n")
    before = sorted(Path().iterdir())
    assert run(tiny_artefact, *line) == 2
    captured = capsys.readouterr()
    assert said in " ".join(captured.err.replace("│", " ").split()) and not captured.out
    assert sorted(Path().iterdir()) == before


def test_in_a_job_a_result_has_a_place_that_outlives_it(
    images: Path,
    tiny_artefact: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run(tiny_artefact, images, "--task", "photo", "--out", "p.parquet") == 2
    assert "outlives the job" in " ".join(capsys.readouterr().err.split())


def test_auto_is_refused_where_the_artefact_cannot_compare(
    images: Path,
    tiny_artefact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without = Path(shutil.copytree(tiny_artefact, tmp_path / "without"))
    description = json.loads((without / "artefact.json").read_text())
    (without / "artefact.json").write_text(json.dumps(description | {"task_features": None}))
    assert run(without, images, "--task", "auto") == 2
    assert "task_features" in capsys.readouterr().err


def test_a_file_that_runs_alone_labels_as_well_and_what_it_cannot_do_leaves_nothing(
    images: Path, tiny_artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = load_backbone(BackboneSpec(f"local-dir:{tiny_artefact.parent / 'clip'}"))
    files = {name: (tiny_artefact / name).read_bytes() for name in (TENSORS, DESCRIPTION)}
    means = mmap_model.load(tiny_artefact).task_features
    alone = tmp_path / "alone"
    export(Trained.of(files, backbone), alone, "torch-export", task_features=means)
    before = sorted(Path().rglob("*"))
    assert run(alone, images, "--task", "auto", "--out", "p.parquet") == 2
    assert "does not hold the image tower as it was before tuning" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )
    Path("x/new.txt").write_text("zebra")
    assert run(alone, "nowhere", "--task", "photo", "--classes", "x/new.txt") == 2
    assert "no text tower" in capsys.readouterr().err, "said before images are looked for"
    Path("x/new.txt").unlink()
    assert sorted(Path().rglob("*")) == before
    for artefact, out in ((alone, "p.parquet"), (tiny_artefact, "q.parquet")):
        assert run(artefact, images, "--task", "photo", "--out", out, "--batch", 9) == 1
    for one, other in zip(rows("p.parquet"), rows("q.parquet"), strict=True):
        assert (one["image"], one["label"]) == (other["image"], other["label"])


def test_a_folder_that_is_no_artefact_is_refused(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(images, images, "--task", "photo") == 2
    assert "artefact.json" in capsys.readouterr().err
