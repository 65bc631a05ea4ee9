"""CLIPs with a ModifiedResNet: exact with methods that leave the image tower alone, refused with others."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import mmap_model
from mmap_model.architecture import model_config, parse_architecture, read_architecture
from mmap_model.backbone import Backbone, load_backbone, random_backbone
from mmap_model.backbone_identity import fingerprint_of, weight_groups
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.checkpoint import pack_prompts
from mmap_model.configuration import Recipe, Seeds, Split
from mmap_model.data import Dataset, DatasetSpec, open_dataset
from mmap_model.errors import BackboneError
from mmap_model.inference.exporting import export
from mmap_model.inference.formats import FORMATS
from mmap_model.inference.trained import Trained
from mmap_model.methods import Problem, get_method, method_names
from mmap_model.training import FusedRun
from orchestrator.cli.main import execute
from search_spaces import SearchSpace

ABLE = ("clip_adapter", "coop", "zero_shot")
ALSO_ABLE = ("clap", "task_res", "tip_adapter", "tip_adapter_f", "zs_lp")
"""Run as ``zero_shot`` does, and compare its features otherwise."""
OTHERS = tuple(sorted({*method_names()} - {*ABLE, *ALSO_ABLE}))
RELEASED = {"RN50": 102_007_137, "RN101": 119_688_033, "RN50x4": 178_300_601, "RN50x16": 290_979_217}
CLASSES = (("dog", "alarm clock", "sea turtle"), ("dog", "cat"))


def resnet(dtype: torch.dtype = torch.float64, **options: Any) -> Backbone:
    """Stages of 1, 2, 1 and 1 blocks, width 8, images of 64 pixels: four cells to pool."""
    return random_backbone(stages=(1, 2, 1, 1), image_width=8, image_size=64, dtype=dtype, **options)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return resnet()


def problem(replicates: int = 1) -> Problem:
    return Problem(
        classes=CLASSES,
        template="a photo of a {}.",
        partitions=[((0,), (1,))] * replicates,
        train_seeds=list(range(replicates)),
    )


def coloured(root: Path) -> Dataset:
    """Two tasks of two classes of noise, ten images each, whose colours differ."""
    rng = np.random.default_rng(0)
    for task, name in product(("art", "photo"), ("fan", "mug")):
        (root / task / name).mkdir(parents=True)
        for number in range(10):
            image = rng.integers(0, 128, (48, 40, 3), np.uint8)
            image[..., 0 if name == "fan" else 2] += 100
            Image.fromarray(image).save(root / task / name / f"{number}.png")
    return open_dataset(DatasetSpec(name="folder", root=str(root)), root.with_name("cache"))


def pixels(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=dtype)


def built(name: str, backbone: Backbone, replicates: int = 1, **settings: Any) -> Any:
    method = get_method(name)
    return method.build(method.Settings(**settings), backbone, problem(replicates))


@pytest.mark.parametrize("model", sorted(RELEASED))
def test_released_models_have_their_published_number_of_parameters(model: str) -> None:
    from open_clip import CLIP

    shape = read_architecture(model)
    assert shape.parameters == RELEASED[model] == shape.counted_parameters
    with torch.device("meta"):
        clip = CLIP(**model_config(model))
    held = {name: tuple(t.shape) for name, t in clip.state_dict().items() if "num_batches" not in name}
    assert held == shape.shapes
    assert shape.visual.heads == clip.visual.attnpool.num_heads


def test_embeddings_hold_nothing_of_what_the_pooling_computes_beside_them(backbone: Backbone) -> None:
    method = get_method("zero_shot")
    model = method.build(method.Settings(), backbone, problem())
    found = model.image_embeddings(torch.zeros(1, 2, 3, 3, 64, 64, dtype=torch.float64))
    assert found.shape[:3] == (1, 2, 3)
    assert found.untyped_storage().nbytes() == found.nbytes


def test_a_resnet_of_other_stages_is_refused_with_the_reason() -> None:
    config = model_config("RN50")
    for stages in ([3, 4, 6], [3, 4, 6, 0], [3, 4, 6, "3"]):
        config["vision_cfg"]["layers"] = stages
        with pytest.raises(BackboneError, match="neither a ViT nor a ModifiedResNet of four stages"):
            parse_architecture("changed", config)


def test_features_are_those_of_open_clip_exactly(backbone: Backbone) -> None:
    model = built("zero_shot", backbone)
    images = pixels(1, 2, 3)
    found = model.image_features(images)
    wanted = backbone.clip.encode_image(images.flatten(0, 2), normalize=True).view(1, 2, 3, -1)
    assert torch.equal(found, wanted)
    texts = backbone.clip.encode_text(backbone.tokenize([f"a photo of a {n}." for n in CLASSES[0]]))
    torch.testing.assert_close(model.class_features()[0, 0], F.normalize(texts, dim=-1), rtol=0, atol=1e-12)


def test_statistics_of_its_normalisation_stay_as_they_were(backbone: Backbone) -> None:
    before = {name: buffer.clone() for name, buffer in backbone.clip.named_buffers()}
    model = built("clip_adapter", backbone, 2).train()
    model.logits(pixels(2, 2, 4)).logsumexp(-1).sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.clip.named_buffers())
    assert not any(p.requires_grad for p in backbone.clip.parameters())


@pytest.mark.parametrize("name", ABLE)
def test_images_meet_nothing_but_the_tower_and_what_comes_after_it(name: str, backbone: Backbone) -> None:
    model = built(name, backbone, 2)
    assert model.constant_images
    embeddings = model.image_embeddings(pixels(2, 2, 3))
    wanted = backbone.clip.encode_image(pixels(2, 2, 3).flatten(0, 2)).view(2, 2, 3, -1)
    assert torch.equal(embeddings, wanted)
    assert model.logits(pixels(2, 2, 3)).shape == (2, 2, 3, 3)


def test_clip_adapter_is_its_formula(backbone: Backbone) -> None:
    model = built("clip_adapter", backbone, biases=False)
    f = backbone.clip.encode_image(pixels(3))
    down, up = model.down_weight[0, 1], model.up_weight[0, 1]
    wanted = F.normalize(0.2 * (up @ (down @ f.T).relu()).relu().T + 0.8 * f, dim=-1)
    found = model.image_features(pixels(3).expand(1, 2, -1, -1, -1, -1))[0, 1]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["clip_adapter", "coop"])
def test_it_trains_and_fused_replicates_equal_separate_ones(
    name: str, backbone: Backbone, tmp_path: Path
) -> None:
    dataset = coloured(tmp_path)
    recipe = Recipe(epochs=2, batch_size=4, lr=0.02, augment=False)
    cells = [
        Cell(
            configuration=Configuration(method=name, settings=get_method(name).Settings(), recipe=recipe),
            seeds=Seeds.both(seed),
            split=Split(shots=3),
            precision="fp64",
            dataset="0" * 32,
            backbone="b",
        )
        for seed in (1, 2)
    ]
    together = FusedRun(cells, backbone, dataset)
    reports = list(together.epochs())
    for one in cells:
        for ours, theirs in zip(FusedRun([one], backbone, dataset).epochs(), reports, strict=True):
            for task, row in ours.cells[one.key]["tasks"].items():
                assert row == pytest.approx(theirs.cells[one.key]["tasks"][task], abs=1e-9)
    first, last = reports[0].cells[cells[0].key], reports[-1].cells[cells[0].key]
    assert first["tasks"] != last["tasks"], "something was trained"


def test_in_mixed_precision_features_are_near(backbone: Backbone) -> None:
    single = resnet(torch.float32)
    model = built("zero_shot", single)
    exact = model.image_features(pixels(1, 2, 3, dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.image_features(pixels(1, 2, 3, dtype=torch.float32))
    assert rounded.dtype == torch.float32 and (rounded * exact).sum(-1).min() > 0.999


@pytest.mark.parametrize("name", OTHERS)
def test_methods_that_have_a_part_in_the_image_tower_are_refused_by_name(name: str) -> None:
    architecture, method = read_architecture("RN50"), get_method(name)
    with pytest.raises(BackboneError, match=f"{name} needs a ViT.*'RN50' is a ModifiedResNet") as raised:
        SearchSpace((), Point(method=name, settings=method.Settings()), architecture=architecture, tasks=4)
    assert all(able in str(raised.value) for able in ABLE)
    for call in (
        lambda: method.require(method.Settings(), architecture),
        lambda: method.build(method.Settings(), resnet(), problem()),
    ):
        with pytest.raises(BackboneError, match="ModifiedResNet"):
            call()


@pytest.mark.parametrize("name", ABLE)
def test_methods_that_have_no_part_in_it_are_counted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--model", "RN50", "--method", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["backbone_parameters"] == RELEASED["RN50"]


def test_the_command_line_names_method_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--model", "RN50", "--method", "vpt"]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "vpt needs a ViT" in said and "ModifiedResNet" in said
    assert ", ".join(sorted({*ABLE, *ALSO_ABLE})) in said
    assert execute(["params", "--model", "RN50", "--classes", "65", "--shots", "6", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["method"] for row in rows if row["parameters"] is not None} == {*ABLE, *ALSO_ABLE}
    assert all("ModifiedResNet" in row["problem"] for row in rows if row["parameters"] is None)


def in_folder(backbone: Backbone, folder: Path, change: Callable[[dict[str, Tensor]], Any] = dict) -> Path:
    folder.mkdir()
    state = {name: tensor.clone() for name, tensor in backbone.clip.state_dict().items()}
    change(state)
    save_file(state, folder / "open_clip_model.safetensors")
    config = {"model_cfg": backbone.config, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def spec_of(folder: Path) -> BackboneSpec:
    return BackboneSpec(f"local-dir:{folder}")


def test_weights_come_back_from_a_file_with_their_fingerprint(tmp_path: Path) -> None:
    original = resnet(torch.float32)
    spec = spec_of(in_folder(original, tmp_path / "clip"))
    found = load_backbone(spec)
    assert found.fingerprint == original.fingerprint == fingerprint_of(spec)
    images = pixels(2, dtype=torch.float32)
    assert torch.equal(found.clip.encode_image(images), original.clip.encode_image(images))
    state = {name: t.half() if t.is_floating_point() else t for name, t in original.clip.state_dict().items()}
    told = {"input_resolution": 64, "context_length": 77, "vocab_size": 49408}
    path = tmp_path / "clip" / "open_clip_model.safetensors"
    path.unlink()
    torch.save(state | {n: torch.tensor(v) for n, v in told.items()}, path.with_name("model.pt"))
    with pytest.raises(BackboneError, match="QuickGELU"):
        load_backbone(spec)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("visual.layer2.0.bn1.running_var"), "lacks visual.layer2.0.bn1.running_var"),
        (
            lambda state: state.update({"visual.layer5.0.conv1.weight": torch.ones(1)}),
            "holds also visual.layer5",
        ),
        (
            lambda state: state.update({"visual.attnpool.positional_embedding": torch.ones(50, 256)}),
            "are for images of 224 pixels, the model takes 64",
        ),
        (lambda state: state["visual.bn1.running_mean"].fill_(torch.nan), "values that are NaN"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Callable[..., Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=said):
        load_backbone(spec_of(in_folder(resnet(torch.float32), tmp_path / "clip", change)))


def test_other_statistics_are_another_backbone_and_counters_are_not(tmp_path: Path) -> None:
    original = resnet(torch.float32)
    counted = in_folder(original, tmp_path / "a", lambda s: s["visual.bn1.num_batches_tracked"].fill_(7))
    moved = in_folder(original, tmp_path / "b", lambda s: s["visual.layer1.0.bn1.running_mean"].add_(1))
    assert fingerprint_of(spec_of(counted)) == original.fingerprint != fingerprint_of(spec_of(moved))
    before, after = weight_groups(spec_of(counted)), weight_groups(spec_of(moved))
    assert {name for name in before if before[name] != after[name]} == {"image blocks"}


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "onnx"])
@pytest.mark.parametrize("name", ABLE)
def test_winners_go_to_work(name: str, kind: str, tmp_path: Path) -> None:
    single = resnet(torch.float32)
    method = get_method(name)
    model = built(name, single)
    configuration = Configuration(method=name, settings=method.Settings())
    tasks = dict(zip(("art", "photo"), CLASSES, strict=True))
    files = pack_prompts(model, 0, configuration=configuration, tasks=tasks, backbone=single)
    trained = Trained.of(files, single)
    if kind == "open_clip" and name != "zero_shot":
        with pytest.raises(mmap_model.errors.ConfigurationError, match=f"open_clip cannot hold .*{name}"):
            export(trained, tmp_path / "out", kind)
        return
    export(trained, tmp_path / "out", kind)
    given = torch.randint(
        0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    task = torch.tensor([1, 0, 1])
    found = mmap_model.load(tmp_path / "out", backbone=single).logits(given, task)
    mean, std = (torch.tensor(v)[:, None, None] for v in (single.image_mean, single.image_std))
    with torch.no_grad():
        logits = model.logits(((given / 255 - mean) / std).expand(1, 2, -1, -1, -1, -1))[0]
    torch.testing.assert_close(found, logits[task, torch.arange(3)], rtol=0, atol=1e-3)
