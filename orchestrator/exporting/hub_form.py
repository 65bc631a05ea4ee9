"""A folder in the layout of the Hugging Face hub, with a model card whose numbers come from the records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from orchestrator.exporting.wrapping import CARRIED, Wrapping

if TYPE_CHECKING:
    from mmap_model.inference.artefact import Artefact, PreprocessingEntry
    from orchestrator.exporting.winner import Winner

PROGRAM, TENSORS = "program", "tensors"
"""Folders of the two artefacts: what runs by itself comes first by name, and is what is loaded."""

_RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers of filters, which the hub's configurations use."""


class HubWrapping(Wrapping):
    """The program with ten lines that run it, the same as tensors, and what the hub reads of a model."""

    name = "hf"
    holds: ClassVar[Mapping[str, str]] = {"torch-export": PROGRAM, "classifier": TENSORS}

    def fill(self, winner: Winner, parts: Mapping[str, Artefact], made: Path, folder: Path) -> None:
        from orchestrator.exporting.card import card, clip_name
        from orchestrator.exporting.measured import measured

        for kind, name in self.holds.items():
            shutil.move(made / kind, folder / name)
        shutil.copyfile(CARRIED / "classify.py", folder / "classify.py")
        artefact = parts["torch-export"]
        _write(folder / "config.json", configuration(artefact, clip_name(artefact)))
        _write(folder / "preprocessor_config.json", preprocessor(artefact.preprocessing))
        dataset = Path(winner.stored.study.dataset.name).name
        (folder / "README.md").write_text(card(artefact, measured(winner), dataset), encoding="utf-8")


def configuration(artefact: Artefact, clip: str) -> dict[str, Any]:
    """``config.json``: class names by task and index, and what was trained of which CLIP."""
    return {
        "model_type": "mmap-classifier",
        "id2label": {t.name: {str(i): name for i, name in enumerate(t.classes)} for t in artefact.tasks},
        "label2id": {t.name: {name: i for i, name in enumerate(t.classes)} for t in artefact.tasks},
        "task2id": {task.name: index for index, task in enumerate(artefact.tasks)},
        "image_size": artefact.preprocessing.size,
        "num_channels": 3,
        "method": artefact.method.name,
        "base_model": clip,
        "base_model_pretrained": artefact.backbone.pretrained,
        "base_model_fingerprint": artefact.backbone.fingerprint,
    }


def preprocessor(entry: PreprocessingEntry) -> dict[str, Any]:
    """``preprocessor_config.json``, in the names of ``CLIPImageProcessor``."""
    square = {"height": entry.size, "width": entry.size}
    sizes: dict[str, Any] = {
        "shortest": {"size": {"shortest_edge": entry.size}, "do_center_crop": True, "crop_size": square},
        "squash": {"size": square, "do_center_crop": False},
        "longest": {
            "size": {"longest_edge": entry.size},
            "do_center_crop": False,
            "do_pad": True,
            "pad_size": square,
            "fill_color": entry.fill_color,
        },
    }
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        **sizes[entry.resize_mode],
        "resample": _RESAMPLE[entry.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(entry.mean),
        "image_std": list(entry.std),
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
