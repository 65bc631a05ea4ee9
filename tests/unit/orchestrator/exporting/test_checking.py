"""No artefact passes that does not say what was recorded: scored in another process from the image files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmap_model.inference.artefact import DESCRIPTION, file_entry
from mmap_model.plain import to_plain
from orchestrator.cli.main import execute
from orchestrator.exporting import checking
from orchestrator.exporting.checking import check
from orchestrator.exporting.choice import choose
from orchestrator.exporting.scoring import ScoringJob, answer
from orchestrator.exporting.winner import Winner
from orchestrator.exporting.writing import write
from orchestrator.face.stored import Stored


@pytest.fixture(scope="module")
def study(trained) -> Stored:  # type: ignore[no-untyped-def]
    return trained()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores in this process: another one takes seconds to start, and the command's test starts it."""
    monkeypatch.setattr(checking, "_answer", lambda job: answer(ScoringJob.read(job)))


def winner_of(stored: Stored, tasks: list[str] | None = None) -> Winner:
    (chosen,) = choose(stored.store, stored.ledger)
    return Winner(stored, chosen, tasks)


def with_file(folder: Path, name: str) -> None:
    """Give a changed file its hash, as somebody would who hides the change."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    description["files"][name] = to_plain(file_entry(folder / name))
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def change_largest(file: Path, change: Callable[[Tensor], Tensor]) -> None:
    """Change the tensor with the largest number."""
    tensors = load_file(file)
    largest = max(tensors, key=lambda name: tensors[name].abs().max() if "mask" not in name else 0)
    tensors[largest] = change(tensors[largest]).contiguous()
    save_file(tensors, file)


def enlarged(tensor: Tensor) -> Tensor:
    return tensor * 1.01


def drawn(tensor: Tensor) -> Tensor:
    """Prompts of a short training hardly matter when they grow: each layer's LayerNorm comes first."""
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("kind", "file", "change"),
    [
        ("prompts", "prompts.safetensors", drawn),
        ("classifier", "classifier.safetensors", enlarged),
    ],
)
def test_a_format_agrees_and_with_its_largest_tensor_changed_it_does_not(
    study: Stored, tmp_path: Path, kind: str, file: str, change: Callable[[Tensor], Tensor], here: None
) -> None:
    winner, folder = winner_of(study), tmp_path / "x"
    artefact = write(winner, folder, kind)
    found = check(winner, folder)
    assert found.holds and found.agreement is not None
    assert found.agreement.images == {"photo": 6, "sketch": 6}, "two of each class"
    assert "every label agrees" in found.in_words()
    assert artefact.source.cells == (winner.chosen.key,) and artefact.source.seed == winner.chosen.seed
    assert artefact.task_accuracy is not None and 0 <= artefact.task_accuracy <= 1

    change_largest(folder / file, change)
    damaged = check(winner, folder)
    assert not damaged.holds and file in damaged.in_words() and "hash" in damaged.in_words()
    if kind == "prompts":  # its description has a hash of its own
        description = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
        description["sha256"] = file_entry(folder / file).sha256
        (folder / "prompts.json").write_text(json.dumps(description), encoding="utf-8")
        with_file(folder, "prompts.json")
    with_file(folder, file)
    hidden = check(winner, folder)
    assert not hidden.holds and hidden.agreement is not None and hidden.agreement.largest > 1e-4
    assert "It differs from the recorded predictions" in hidden.in_words()


def test_another_resize_filter_is_found(study: Stored, tmp_path: Path, here: None) -> None:
    winner, folder = winner_of(study), tmp_path / "x"
    write(winner, folder, "classifier")
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    assert description["preprocessing"]["interpolation"] == "bicubic"
    description["preprocessing"]["interpolation"] = "bilinear"
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    found = check(winner, folder)
    assert not found.holds and found.agreement is not None and found.agreement.beyond > 0


def test_some_tasks_alone_are_exported_and_checked(study: Stored, tmp_path: Path, here: None) -> None:
    winner = winner_of(study, ["sketch"])
    artefact = write(winner, tmp_path / "x", "classifier")
    found = check(winner, tmp_path / "x")
    assert [task.name for task in artefact.tasks] == ["sketch"]
    assert found.holds and found.agreement is not None and found.agreement.images == {"sketch": 6}
    assert artefact.task_accuracy is None, "there is nothing to tell apart"


def test_a_study_without_validation_images_is_checked_on_what_it_trained_on(  # type: ignore[no-untyped-def]
    trained, tmp_path: Path, here: None
) -> None:
    winner = winner_of(trained(protocol="paper"))
    write(winner, tmp_path / "x", "classifier")
    found = check(winner, tmp_path / "x")
    assert found.holds and "training images" in found.against
    assert found.agreement is not None and found.agreement.images == {"photo": 6, "sketch": 6}


def test_a_cell_trained_in_bf16_is_compared_in_single_precision_and_both_are_reported(  # type: ignore[no-untyped-def]
    trained, tmp_path: Path, here: None
) -> None:
    winner = winner_of(trained(precision="bf16"))
    write(winner, tmp_path / "x", "classifier")
    found = check(winner, tmp_path / "x")
    assert found.holds and found.recorded is not None
    assert "in single precision" in found.against and "beside the record in bf16" in found.in_words()


@pytest.mark.parametrize("method", ["zero_shot", "coop", "clip_adapter", "vpt", "maple", "bitfit", "full_ft"])
def test_every_method_exports_and_agrees(  # type: ignore[no-untyped-def]
    method: str, trained, tmp_path: Path, here: None
) -> None:
    winner = winner_of(trained(method))
    write(winner, tmp_path / "x", "classifier")
    assert check(winner, tmp_path / "x").in_words().startswith("Checked against")


def enlarge_program(file: Path) -> None:
    """Multiply the largest weight of an exported program by 1.01."""
    program = torch.export.load(file)
    largest = max((t for t in program.state_dict.values() if t.is_floating_point()), key=lambda t: t.numel())
    with torch.no_grad():
        largest.mul_(1.01)
    torch.export.save(program, file)


def enlarge_graph(file: Path) -> None:
    """The same of an ONNX file."""
    model = onnx.load(file)
    floats = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    largest = max(floats, key=lambda one: len(one.raw_data))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * 1.01, largest.name))
    onnx.save(model, file)


@pytest.mark.parametrize(
    ("kind", "file", "enlarge"),
    [("torch-export", "model.pt2", enlarge_program), ("onnx", "model.onnx", enlarge_graph)],
)
def test_files_that_run_without_this_software_agree_until_a_weight_is_changed(
    kind: str, file: str, enlarge: Callable[[Path], None], study: Stored, tmp_path: Path, here: None
) -> None:
    winner, folder = winner_of(study), tmp_path / "x"
    write(winner, folder, kind)
    assert check(winner, folder).in_words().startswith("Checked against")
    enlarge(folder / file)
    damaged = check(winner, folder)
    assert not damaged.holds and file in damaged.in_words() and "hash" in damaged.in_words()
    with_file(folder, file)
    hidden = check(winner, folder)
    assert not hidden.holds and hidden.agreement is not None and hidden.agreement.largest > 1e-4


@pytest.mark.parametrize(
    ("method", "settings"),
    [("zero_shot", {}), ("full_ft", {"regime": "single"}), ("bitfit", {})],
)
def test_plain_open_clip_says_what_was_recorded(  # type: ignore[no-untyped-def]
    method: str, settings: dict[str, str], trained, tmp_path: Path, here: None
) -> None:
    winner = winner_of(trained(method, settings))
    write(winner, tmp_path / "x", "open_clip")
    assert check(winner, tmp_path / "x").in_words().startswith("Checked against")


def test_the_command_checks_what_was_exported_before_and_tells_exit_codes(
    study: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = str(study.store.storage.root)
    command = ["export", "made", "--storage", root, "--format", "classifier", "--out", str(tmp_path / "x")]
    assert execute(command) == 0
    assert "Not checked" in capfd.readouterr().out
    assert execute([*command, "--check"]) == 0
    said = capfd.readouterr().out
    assert "Exported before" in said and "every label agrees" in said
    change_largest(tmp_path / "x" / "classifier.safetensors", enlarged)
    assert execute([*command, "--check"]) == 1
    assert "does not have the hash" in capfd.readouterr().err
    assert execute(command) == 2, "a folder that holds something"
    assert execute([*command[:-3], "prompts", *command[-2:], "--check"]) == 2
    assert "holds another export" in capfd.readouterr().err


def test_all_seeds_are_one_artefact_each(
    study: Stored, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, out = str(study.store.storage.root), tmp_path / "seeds"
    command = ["export", "made", "--storage", root, "--format", "prompts", "--out", str(out)]
    assert execute([*command, "--all-seeds", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [one["seed"] for one in found] == ["1", "2"]
    assert sorted(path.name for path in out.iterdir()) == ["seed-1", "seed-2"]
    assert all("one artefact each" in one["reason"] for one in found)


def test_weights_that_were_dropped_name_the_command_that_brings_them_back(  # type: ignore[no-untyped-def]
    trained, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stored = trained("bitfit")
    (chosen,) = choose(stored.store, stored.ledger)
    stored.ledger.drop(chosen.key, "prompts.safetensors")
    root = str(stored.store.storage.root)
    command = ["export", "made", "--storage", root, "--format", "prompts", "--out", str(tmp_path / "x")]
    assert execute(command) == 2
    assert "confirm made --trial 0 --retrain" in " ".join(capfd.readouterr().err.split())
