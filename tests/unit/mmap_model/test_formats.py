"""Each format holds each method, or says why not; what runs elsewhere gives the same there."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mmap_model
from mmap_model.backbone import Backbone, random_backbone
from mmap_model.errors import CheckpointError, ConfigurationError
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.exporting import export
from mmap_model.inference.formats import FORMATS, format_of
from mmap_model.inference.formats.open_clip import CONFIG, folder_names
from mmap_model.inference.trained import Trained
from mmap_model.methods.model import TunedModel
from mmap_model.training.pixels import Normalisation

TASK = torch.tensor([2, 0, 1, 1, 2, 0, 0])
IN_OPEN_CLIP = {"bitfit", "clip_lora grouped", "full_ft", "full_ft single", "zero_shot"}
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="the extra onnx is not installed"
)
KINDS = [pytest.param(kind, marks=needs_onnx if kind == "onnx" else ()) for kind in FORMATS]


def pixels(count: int = len(TASK), side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def cosines(trained: Trained, images: Tensor, task: Tensor) -> Tensor:
    """Of the trained model, [B, C]."""
    normalised = Normalisation(trained.backbone)(images)
    with torch.no_grad():
        logits = trained.model.logits(normalised.expand(1, trained.model.tasks, *images.shape))[0]
    return logits[task, torch.arange(len(task))] / trained.deployed.head.scale[task][:, None]


def assert_near(found: Tensor, wanted: Tensor, scale: Tensor, limit: float = 1e-5) -> None:
    """Logits [B, C] against cosines."""
    assert torch.equal(found.isfinite(), wanted.isfinite())
    apart = (found / scale[:, None] - wanted)[wanted.isfinite()].abs().max()
    assert apart <= limit, f"cosines are {apart:.1e} apart"


@pytest.fixture(scope="module")
def exported(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """The folder of a case in a format, written once, as that takes seconds; nobody changes it."""
    folder = tmp_path_factory.mktemp("exported")

    @cache
    def written(case: str, kind: str) -> Path:
        place = folder / kind / case.replace(" ", "_")
        export(trained_case(case, tiny_backbone), place, kind)
        return place

    return written


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_holds_every_method_or_says_why_not(
    method_case: str,
    kind: str,
    trained_case: Callable[..., Trained],
    exported: Callable[[str, str], Path],
    tiny_backbone: Backbone,
    tmp_path: Path,
) -> None:
    trained = trained_case(method_case, tiny_backbone)
    if kind == "open_clip" and method_case not in IN_OPEN_CLIP:
        with pytest.raises(ConfigurationError, match=rf"open_clip cannot hold .*{trained.method.name}.*use"):
            export(trained, tmp_path / "out", kind)
        assert not (tmp_path / "out").exists()
        return
    classifier = mmap_model.load(exported(method_case, kind), backbone=tiny_backbone)
    artefact = classifier.artefact
    assert artefact.kind == kind and artefact.text_tower == (kind in ("prompts", "open_clip"))
    scale = trained.deployed.head.scale
    for batch in (1, 2, 7):
        task = TASK[-batch:]
        found = classifier.logits(pixels(batch), task)
        assert found.dtype == torch.float32 and not found.requires_grad
        assert_near(found, cosines(trained, pixels(batch), task), scale[task])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["zero_shot", "coop", "clip_adapter"])
def test_a_tower_that_is_no_transformer_is_exported_with_the_methods_that_leave_it(
    case: str, kind: str, trained_case: Callable[..., Trained], tmp_path: Path
) -> None:
    backbone = random_backbone(
        image_size=32, image_width=8, head_width=8, stages=(1, 1, 1, 1), embed_dim=16, seed=2
    )
    trained = trained_case(case, backbone)
    if kind == "open_clip" and case not in IN_OPEN_CLIP:
        with pytest.raises(ConfigurationError, match=f"open_clip cannot hold .*{case}"):
            export(trained, tmp_path / "out", kind)
        return
    export(trained, tmp_path / "out", kind)
    classifier = mmap_model.load(tmp_path / "out", backbone=backbone)
    images = pixels(7, 32)
    for batch in (1, 7):
        found, task = classifier.logits(images[-batch:], TASK[-batch:]), TASK[-batch:]
        assert_near(found, cosines(trained, images[-batch:], task), trained.deployed.head.scale[task])


ELSEWHERE = """
import sys
for name in ("mmap_model", "orchestrator", "search_spaces", "open_clip"):
    sys.modules[name] = None  # importing it is an error
import numpy, pathlib, torch
apart = 0.0
for folder in map(pathlib.Path, sys.argv[1:]):
    given = numpy.load(folder.with_suffix(".npz"))
    if (folder / "model.pt2").exists():
        module = torch.export.load(folder / "model.pt2").module()
        run = lambda p, t: module(torch.from_numpy(p), torch.from_numpy(t)).numpy()
    else:
        import onnxruntime
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        assert [i.name for i in session.get_inputs()] == ["pixels", "task"]
        assert [i.shape[0] for i in session.get_inputs()] == ["batch", "batch"]
        assert [o.name for o in session.get_outputs()] == ["logits"]
        run = lambda p, t: session.run(["logits"], {"pixels": p, "task": t})[0]
    for batch in (1, 2, 7):
        found = run(given["pixels"][-batch:], given["task"][-batch:]) / given["scale"][-batch:, None]
        wanted = given["cosines"][-batch:]
        real = numpy.isfinite(wanted)
        assert found.dtype == numpy.float32 and (numpy.isfinite(found) == real).all()
        assert numpy.isneginf(found[~real]).all()
        apart = max(apart, numpy.abs(found - wanted)[real].max())
print(apart)
"""


@pytest.mark.parametrize("kind", [pytest.param("torch-export"), pytest.param("onnx", marks=needs_onnx)])
def test_a_process_without_this_software_computes_the_same(
    kind: str,
    trained_case: Callable[..., Trained],
    exported: Callable[[str, str], Path],
    tiny_backbone: Backbone,
    tmp_path: Path,
) -> None:
    folders = []
    for case in ("mmap", "maple single", "clip_adapter", "full_ft single"):
        trained, folder = trained_case(case, tiny_backbone), exported(case, kind)
        np.savez(
            folder.with_suffix(".npz"),
            pixels=Normalisation(tiny_backbone)(pixels()).numpy(),
            task=TASK.numpy(),
            scale=trained.deployed.head.scale[TASK].numpy(),
            cosines=cosines(trained, pixels(), TASK).numpy(),
        )
        folders.append(str(folder))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *folders], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1e-5


def test_the_file_that_runs_elsewhere_has_its_preprocessing_in_words_beside_it(
    exported: Callable[[str, str], Path],
) -> None:
    text = (exported("vpt single", "torch-export") / "README.md").read_text()
    for said in ("float32 [B, 3, 16, 16]", "0 'art', 1 'photo', 2 'map'", "shorter side to 16", "0.48145466"):
        assert said in text


def test_the_program_holds_the_image_tower_and_no_text_tower_and_nothing_twice(
    exported: Callable[[str, str], Path], tiny_backbone: Backbone
) -> None:
    image_tower = sum(p.nbytes for p in tiny_backbone.clip.visual.parameters())
    for case in ("vpt single", "custom finish", "custom features", "full_ft", "full_ft single"):
        with ZipFile(exported(case, "torch-export") / "model.pt2") as archive:
            weights = sum(i.file_size for i in archive.infolist() if "/weights/" in i.filename)
            assert not any("sample_inputs" in i.filename and i.file_size > 1000 for i in archive.infolist())
        towers = 3 if case == "full_ft single" else 1
        assert towers * image_tower < weights < 1.1 * towers * image_tower, case


@pytest.mark.parametrize("kind", [pytest.param("torch-export"), pytest.param("onnx", marks=needs_onnx)])
def test_a_file_names_no_place_of_the_machine_that_wrote_it(
    kind: str, exported: Callable[[str, str], Path]
) -> None:
    folder = exported("vpt single", kind)
    written = b"".join((folder / name).read_bytes() for name in Artefact.read(folder).files)
    for place in (mmap_model.__file__, torch.__file__, str(folder)):
        assert str(Path(place).parent).encode() not in written


@pytest.mark.parametrize("case", sorted(IN_OPEN_CLIP))
def test_plain_open_clip_loads_and_computes_the_same(
    case: str, trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    import open_clip

    trained = trained_case(case, tiny_backbone)
    artefact = export(trained, tmp_path / "out", "open_clip")
    wanted, scale = cosines(trained, pixels(), TASK), trained.deployed.head.scale
    folders = ["."] * 3 if CONFIG in artefact.files else ["art", "photo", "map"]
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (23, 40, 3), dtype=np.uint8))
    own = mmap_model.load(tmp_path / "out").preprocess(image)
    for task, (name, entry) in enumerate(zip(folders, artefact.tasks, strict=True)):
        place = f"local-dir:{tmp_path / 'out' / name}"
        clip, _, preprocess = open_clip.create_model_and_transforms(place)
        texts = [artefact.method.template.replace("{}", c.replace("_", " ")) for c in entry.classes]
        with torch.no_grad():
            images = clip.encode_image(Normalisation(tiny_backbone)(pixels()), normalize=True)
            classes = clip.encode_text(open_clip.get_tokenizer(place)(texts), normalize=True)
        rows = task == TASK
        torch.testing.assert_close(
            (images @ classes.T)[rows], wanted[rows][:, : len(texts)], rtol=0, atol=1e-5
        )
        torch.testing.assert_close(clip.logit_scale.exp(), scale[task], rtol=1e-6, atol=0)
        torch.testing.assert_close(preprocess(image), Normalisation(tiny_backbone)(own), rtol=0, atol=1e-5)


def test_folders_of_tasks_are_named_as_every_file_system_takes_them() -> None:
    assert folder_names(["Real World", "art-2"]) == ["Real World", "art-2"]
    for names in (["../x", "y"], ["a", "A"], ["né", "b"], [".git", "b"], ["", "b"], ["x" * 100, "b"]):
        assert folder_names(names) == ["task_0", "task_1"]


@pytest.mark.parametrize(("kind", "said"), [("torch-export", "fp32"), ("onnx", "fp32")])
def test_a_precision_or_an_answer_that_a_file_lacks_is_refused(
    kind: str, said: str, exported: Callable[[str, str], Path]
) -> None:
    if kind == "onnx" and importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("the extra onnx is not installed")
    folder = exported("zero_shot", kind)
    with pytest.raises(ConfigurationError, match=said):
        mmap_model.load(folder, precision="bf16")
    classifier = mmap_model.load(folder)
    refused: dict[str, Callable[[], Any]] = {
        "gives logits only": lambda: classifier.features(pixels(), 0),
        "before tuning": lambda: classifier.plain_features(pixels()),
        "no text tower": lambda: classifier.with_classes(["dog"], task=0),
    }
    for problem, ask in refused.items():
        with pytest.raises(ConfigurationError, match=rf"{kind} .*{problem}[\s\S]*--format"):
            ask()


@pytest.mark.parametrize("kind", [pytest.param("torch-export"), pytest.param("onnx", marks=needs_onnx)])
def test_a_file_that_its_runtime_cannot_read_is_an_error_that_names_it(
    kind: str, exported: Callable[[str, str], Path], tmp_path: Path
) -> None:
    classifier = mmap_model.load(exported("zero_shot", kind))
    name = next(name for name in classifier.artefact.files if name.startswith("model"))

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(b"no model")

    classifier.artefact.write(tmp_path / "damaged", damage)
    with pytest.raises(CheckpointError, match=name):
        mmap_model.load(tmp_path / "damaged")


@needs_onnx
def test_weights_beyond_what_the_file_can_hold_lie_beside_it(
    trained_case: Callable[..., Trained],
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mmap_model.inference.formats.onnx.INSIDE", 0)
    trained = trained_case("vpt", tiny_backbone)
    artefact = export(trained, tmp_path / "out", "onnx")
    assert set(artefact.files) == {"README.md", "model.onnx", "model.onnx.data"}
    assert artefact.files["model.onnx.data"].bytes > artefact.files["model.onnx"].bytes
    (tmp_path / "out").rename(tmp_path / "moved")
    found = mmap_model.load(tmp_path / "moved").logits(pixels(), TASK)
    assert_near(found, cosines(trained, pixels(), TASK), trained.deployed.head.scale[TASK])


def test_a_missing_library_is_an_error_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
    trained_case: Callable[..., Trained],
    tiny_backbone: Backbone,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("mmap_model.inference.formats.base.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"onnxruntime[\s\S]*uv sync --inexact --extra onnx"):
        export(trained_case("zero_shot", tiny_backbone), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="torch-export"):
        format_of("torch_export")


def test_a_method_that_torch_cannot_follow_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
    trained_case: Callable[..., Trained],
    tiny_backbone: Backbone,
    tmp_path: Path,
) -> None:
    trained = trained_case("custom features", tiny_backbone)
    plain = type(trained.model).image_features

    def branches(self: TunedModel, given: Tensor) -> Tensor:
        return plain(self, given) if given.sum() > 0 else plain(self, -given)

    monkeypatch.setattr(type(trained.model), "image_features", branches)
    with pytest.raises(ConfigurationError, match=r"custom_features[\s\S]*branches"):
        export(trained, tmp_path / "out", "torch-export")


def test_a_model_that_compares_in_its_own_way_is_not_exported_as_if_it_did_not(
    monkeypatch: pytest.MonkeyPatch,
    trained_case: Callable[..., Trained],
    tiny_backbone: Backbone,
    tmp_path: Path,
) -> None:
    trained = trained_case("custom features", tiny_backbone)
    plain = type(trained.model).compare
    monkeypatch.setattr(type(trained.model), "compare", lambda *given: plain(*given) ** 2)
    with pytest.raises(ConfigurationError, match=r"not what was trained[\s\S]*leave logits and compare"):
        export(trained, tmp_path / "out", "prompts")
    assert not (tmp_path / "out").exists()


def test_the_description_says_what_was_exported(
    trained_case: Callable[..., Trained], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    trained = trained_case("custom features", tiny_backbone)
    export(trained, tmp_path / "out", "prompts", licence="MIT", validation_accuracy={"photo": 0.25})
    said = json.loads((tmp_path / "out" / "artefact.json").read_text())
    assert said["backbone"]["licence"] == "MIT"
    assert said["backbone"]["fingerprint"] == tiny_backbone.fingerprint
    assert said["tasks"][1] == {
        "name": "photo",
        "classes": ["dog", "cat"],
        "validation_accuracy": 0.25,
        "template": None,
    }
    assert said["method"]["version"] == 1 and len(said["method"]["sha256"]) == 1
    assert any("all 3 tasks" in note for note in said["notes"]), "it is slow, and says so"
    assert {"python", "torch", "open_clip_torch"} <= said["versions"].keys()
