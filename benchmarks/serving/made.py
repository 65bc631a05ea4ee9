"""What the cases label with: ViT-B/16 with random weights, tuned prompts of four tasks, and photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from mmap_model.architecture import model_config
from mmap_model.backbone import Backbone, BackboneSpec, load_backbone
from mmap_model.cells import Configuration, Point
from mmap_model.checkpoint import pack_prompts
from mmap_model.inference.exporting import export
from mmap_model.inference.trained import Trained
from mmap_model.methods import Problem, get_method

MODEL = "ViT-B-16-quickgelu"
TASKS = {name: tuple(f"class {i}" for i in range(65)) for name in ("art", "clipart", "product", "photo")}
SETTINGS = {"prompt_length": 4, "source_rows": 2, "source_cols": 16}
SIZE = (500, 375)
"""Pixels of a photograph, as of ImageNet on average."""


def make_artefact(folder: Path) -> tuple[Path, Backbone]:
    """Write ``clip`` and ``winner`` (of kind ``classifier``) into a folder; the artefact and its CLIP."""
    import open_clip

    torch.manual_seed(0)
    clip = folder / "clip"
    clip.mkdir()
    config = model_config(MODEL)
    weights = open_clip.create_model(MODEL, pretrained=None).state_dict()
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, clip / "open_clip_model.safetensors")
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (clip / "open_clip_config.json").write_text(json.dumps(described))
    backbone = load_backbone(BackboneSpec(f"local-dir:{clip}"))
    point = Point.from_dict({"method": "mmap", "settings": SETTINGS})
    configuration = Configuration(method="mmap", settings=point.settings, partition=((0, 1), (2, 3)))
    problem = Problem(
        classes=list(TASKS.values()),
        template=configuration.recipe.template,
        partitions=[configuration.partition],
        train_seeds=[1],
    )
    model = get_method("mmap").build(point.settings, backbone, problem)
    files = pack_prompts(model, 0, configuration=configuration, tasks=TASKS, backbone=backbone)
    export(Trained.of(files, backbone), folder / "winner", "classifier")
    return folder / "winner", backbone


def make_photographs(folder: Path, count: int) -> int:
    """Write JPEGs of some 60 kB, blurred noise on a gradient; their bytes on average."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    width, height = SIZE
    gradient = np.linspace(0, 120, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    for number in range(count):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        soft = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1)), np.float32)
        pixels = np.clip(gradient + soft / 2, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=90)
    return sum(path.stat().st_size for path in folder.iterdir()) // count
