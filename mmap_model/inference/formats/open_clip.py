"""A folder that plain open_clip loads, for methods that train nothing but weights of a CLIP."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from mmap_model.backbone import Backbone, BackboneSpec, load_backbone
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.engine import ClassRows, InferenceEngine, TorchEngine
from mmap_model.inference.formats.base import ExportFormat, LoadOptions
from mmap_model.inference.plain import plain_classes, plain_images
from mmap_model.inference.tower import DeployedClassifier, Head
from mmap_model.inference.trained import Trained
from mmap_model.methods.deployed import OneTowerPerTask

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


class OpenClipFormat(ExportFormat):
    """The CLIP with its trained weights; where each task has its own, one folder per task."""

    name = "open_clip"
    text_tower = True

    def refusal(self, trained: Trained) -> str | None:
        if any(list(trained.templates_of(task)) != [trained.template] for task in trained.tasks):
            return (
                "its classes are means over several texts, which open_clip's own forward does not take; use "
                "torch-export, onnx, classifier or prompts"
            )
        if trained.model.tuned_clips(trained.tasks) is not None:
            return None
        return (
            f"{trained.method.name} trains more than the weights of a CLIP, so plain open_clip could not run "
            "it; use torch-export, onnx, classifier or prompts"
        )

    def notes(self, trained: Trained) -> Sequence[str]:
        places = ", ".join(f"local-dir:FOLDER/{name}".removesuffix("/.") for name in _folders(trained))
        return (f"open_clip loads {places}; the texts of classes are {trained.template!r}.",)

    def write(self, trained: Trained, folder: Path) -> None:
        clips = trained.model.tuned_clips(trained.tasks)
        assert clips is not None, "refusal() was asked"
        for name, tensors in zip(_folders(trained), clips, strict=True):
            (folder / name).mkdir(exist_ok=True)
            saved = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
            save_file(saved, folder / name / WEIGHTS, metadata={"format": "pt"})
            text = json.dumps(_config(trained.backbone), indent=1)
            (folder / name / CONFIG).write_text(text, encoding="utf-8")

    def load(self, folder: Path, artefact: Artefact, options: LoadOptions) -> InferenceEngine:
        places = sorted(name for name in artefact.files if name.endswith(CONFIG))
        if places == [CONFIG]:
            names = ["."] * len(artefact.tasks)
        else:
            names = folder_names([task.name for task in artefact.tasks])
        clips = {
            name: load_backbone(BackboneSpec(f"local-dir:{folder / name}"), device=options.device)
            for name in dict.fromkeys(names)
        }
        backbones = [clips[name] for name in names]
        wording = artefact.method.template

        def reword(task: int, classes: Sequence[str], template: str | None) -> ClassRows:
            return ClassRows(plain_classes(backbones[task], classes, template or wording), mixed=False)

        rows = [reword(t, entry.classes, entry.template).features for t, entry in enumerate(artefact.tasks)]
        scale = torch.stack([backbone.clip.logit_scale.detach().exp() for backbone in backbones])
        towers = [plain_images(backbone) for backbone in clips.values()]
        images = towers[0] if len(towers) == 1 else OneTowerPerTask(towers)
        untouched = len(clips) == 1 and backbones[0].fingerprint == artefact.backbone.fingerprint
        return TorchEngine(
            DeployedClassifier(images, Head.of_rows(rows, scale)).eval(),
            kind=self.name,
            precision=options.precision,
            plain=towers[0] if untouched else None,
            reword=reword,
        )


def folder_names(tasks: Sequence[str]) -> list[str]:
    """Of tasks with a CLIP each: their names where every file system takes them, numbers otherwise."""
    safe = all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,80}", name) for name in tasks)
    if safe and len({name.strip().lower() for name in tasks}) == len(tasks):
        return [name.strip() for name in tasks]
    return [f"task_{number}" for number in range(len(tasks))]


def _folders(trained: Trained) -> list[str]:
    """Of the CLIPs, relative to the artefact."""
    clips = trained.model.tuned_clips(trained.tasks) or ()
    return ["."] if len(clips) == 1 else folder_names(trained.task_names)


def _config(backbone: Backbone) -> dict[str, object]:
    resize = backbone.resize
    return {
        "model_cfg": backbone.config,
        "preprocess_cfg": {
            "mean": list(backbone.image_mean),
            "std": list(backbone.image_std),
            "interpolation": resize.interpolation,
            "resize_mode": resize.mode,
            "fill_color": resize.fill,
        },
    }
