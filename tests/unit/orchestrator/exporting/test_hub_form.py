"""A folder for the hub: its card's numbers are those of the records, and its example runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

import mmap_model
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.inference.artefact import DESCRIPTION, Artefact, file_entry
from mmap_model.plain import to_plain
from mmap_model.preprocessing import MODES, Resize, from_hugging_face
from orchestrator.exporting import checking
from orchestrator.exporting.checking import check
from orchestrator.exporting.choice import choose
from orchestrator.exporting.hub_form import preprocessor
from orchestrator.exporting.scoring import ScoringJob, answer
from orchestrator.exporting.winner import Winner
from orchestrator.exporting.writing import write
from orchestrator.face.stored import Stored


@pytest.fixture(scope="module")
def study(trained) -> Stored:  # type: ignore[no-untyped-def]
    return trained()


@pytest.fixture(scope="module")
def winner(study: Stored) -> Winner:
    (chosen,) = choose(study.store, study.ledger)
    return Winner(study, chosen, None)


@pytest.fixture
def folder(winner: Winner, tmp_path: Path, whole: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "x"))


@pytest.fixture(scope="module")
def whole(winner: Winner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "x"
    write(winner, folder, "hf")
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores in this process: another one takes seconds to start."""
    monkeypatch.setattr(checking, "_answer", lambda job: answer(ScoringJob.read(job)))


def rewritten(folder: Path, *names: str) -> None:
    """Give changed files their hashes, as somebody would who hides the change."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    for name in names:
        description["files"][name] = to_plain(file_entry(folder / name))
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def front(folder: Path) -> dict[str, object]:
    text = (folder / "README.md").read_text(encoding="utf-8")
    found: dict[str, object] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_it_agrees_with_the_records_and_neither_half_may_change(winner: Winner, folder: Path) -> None:
    found = check(winner, folder)
    assert found.holds and found.agreement is not None, found.in_words()
    assert found.agreement.images == {"photo": 6, "sketch": 6}
    tensors = load_file(folder / "tensors" / "classifier.safetensors")
    tensors["head.class_features"] *= 1.01
    save_file(tensors, folder / "tensors" / "classifier.safetensors")
    assert "hash" in check(winner, folder).in_words()
    rewritten(folder / "tensors", "classifier.safetensors")
    rewritten(folder, "tensors/classifier.safetensors", "tensors/artefact.json")
    hidden = check(winner, folder)
    assert not hidden.holds and "the program and the tensors" in hidden.in_words()


def test_the_card_tells_this_files_number_from_the_mean_over_seeds(winner: Winner, folder: Path) -> None:
    chosen, text = winner.chosen, (folder / "README.md").read_text(encoding="utf-8")
    head = front(folder)
    assert head["pipeline_tag"] == "image-classification" and head["license"] == "apache-2.0"
    assert head["library_name"] == "pytorch" and "mmap" in head["tags"]  # type: ignore[operator]
    (model,) = head["model-index"]  # type: ignore[misc]
    (result,) = model["results"]
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    over = chosen.over_seeds
    assert over is not None and chosen.validation is not None
    assert values[f"Accuracy of this file (seed {chosen.seed})"] == pytest.approx(chosen.validation, abs=1e-6)
    assert values["Accuracy, mean over 2 seeds"] == pytest.approx(over["mean"], abs=1e-6)
    assert values["Accuracy, standard deviation over 2 seeds"] == pytest.approx(over["std"], abs=1e-6)
    assert result["dataset"] == {"name": "folder", "type": "folder", "split": "validation"}
    shown = f"{100 * over['mean']:.1f} ± {100 * over['std']:.1f} (n = 2)"
    assert f"| validation | all | {100 * chosen.validation:.1f} | {shown} |" in text
    assert "has not scored it on test images" in text and chosen.key in text
    assert re.findall(r"^#+ .*$", text, re.MULTILINE)[1:] == [
        *("## Accuracy", "## Use", "## Files", "## Images", "## Classes"),
        *("## Where it comes from", "## Licence"),
    ]


def test_test_numbers_are_in_the_card_once_the_study_has_them(  # type: ignore[no-untyped-def]
    trained, tmp_path: Path
) -> None:
    stored = trained("zero_shot")
    (trial,) = stored.store.load_trials()
    for key in trial.keys:
        stored.ledger.commit_test(key, {"metrics": {"accuracy": 0.625, "tasks": {}}}, {})
    stored.store.record_test_evaluation(reason="confirm", keys=trial.keys)
    (chosen,) = choose(stored.store, stored.ledger)
    write(Winner(stored, chosen, None), tmp_path / "x", "hf")
    text = (tmp_path / "x" / "README.md").read_text(encoding="utf-8")
    assert "| test | all | 62.5 |" in text and "has not scored" not in text
    (model,) = front(tmp_path / "x")["model-index"]  # type: ignore[misc]
    assert [result["dataset"]["split"] for result in model["results"]] == ["validation", "test"]


def test_the_example_of_the_card_runs_without_this_software(folder: Path, photographs: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(example.splitlines()) <= 10
    image = next((photographs / "photo").rglob("*.jpg"))
    shutil.copyfile(image, folder / "image.jpg")
    blocked = ("mmap_model", "orchestrator", "open_clip", "torchvision", "safetensors", "mlflow", "pandas")
    hide = f"import sys\nfor name in {blocked!r}:\n    sys.modules[name] = None\n"
    ran = subprocess.run([sys.executable, "-c", hide + example], cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    first, *lines = ran.stdout.splitlines()
    assert first == "{'photo': 3, 'sketch': 3}"
    (wanted,) = mmap_model.load(folder).predict(image, task="photo", top=3)
    pairs = zip(wanted.probabilities, wanted.labels, strict=True)
    assert lines == [f"{probability:.3f} {name}" for probability, name in pairs]


def test_the_hub_reads_class_names_and_preprocessing(folder: Path, winner: Winner) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"]["sketch"] == {"0": "anchor", "1": "bell", "2": "key"}
    assert config["label2id"]["photo"]["key"] == 2 and config["task2id"] == {"photo": 0, "sketch": 1}
    given = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert from_hugging_face(given, winner.backbone.image_size, "x") == winner.backbone.preprocessing
    artefact = Artefact.read(folder)
    assert artefact.kind == "hf" and artefact.inside == ("program", "tensors")
    clip = BackboneSpec(winner.stored.study.backbone.model)
    assert mmap_model.load(folder / "tensors", backbone=clip).artefact.kind == "classifier"


@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_resizing_is_said_in_the_names_of_the_hub(folder: Path, mode: str) -> None:
    from dataclasses import replace

    entry = replace(Artefact.read(folder).preprocessing, resize_mode=mode, interpolation="bilinear")
    given = preprocessor(entry)
    if mode == "longest":
        assert given["size"] == {"longest_edge": entry.size} and given["do_pad"] is True
    else:
        assert from_hugging_face(given, entry.size, "x").resize == Resize(mode, "bilinear")  # type: ignore[arg-type]
