"""Configuration and preprocessing as published beside a file of weights, or known of its release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmap_model import hugging_face
from mmap_model.errors import BackboneError
from mmap_model.preprocessing import Preprocessing, from_hugging_face, from_open_clip
from mmap_model.text_files import read_json
from mmap_model.weights.names import Naming

OPEN_CLIP, HUGGING_FACE, PREPROCESSOR = "open_clip_config.json", "config.json", "preprocessor_config.json"
CONFIGURATIONS = (OPEN_CLIP, HUGGING_FACE, PREPROCESSOR)


@dataclass(frozen=True)
class PublishedModel:
    """One model configuration in open_clip's terms, and the file that says so."""

    config: Mapping[str, Any]
    file: Path

    @property
    def quick_gelu(self) -> bool:
        return bool(self.config.get("quick_gelu", False))


def published_config(folder: Path, naming: Naming) -> PublishedModel | None:
    """The model's configuration in the folder of its weights: of the library that the weights are named by
    first, else of the other; None where there is none of a CLIP.

    Raises:
        BackboneError: a file that is no configuration, or one of a model that open_clip does not compute.
    """
    found = {"open_clip": _open_clip_config, "hugging_face": _hugging_face_config}
    order = ("open_clip", "hugging_face") if naming == "open_clip" else ("hugging_face", "open_clip")
    return next((config for name in order if (config := found[name](folder)) is not None), None)


def published_preprocessing(folder: Path, size: int, naming: Naming) -> Preprocessing | None:
    """How images are made ready, by the files in the folder of the weights; None where they do not tell.

    Args:
        folder: of the weights.
        size: side of the model's input, pixels.
        naming: whose names the weights have; that library's file is read first.

    Raises:
        BackboneError: something that cannot be honoured.
    """
    own = _read(folder / OPEN_CLIP)
    section = None if own is None else own.get("preprocess_cfg")
    theirs = _read(folder / PREPROCESSOR)
    readers = {}
    if section:
        readers["open_clip"] = lambda: from_open_clip(section, size, f"{folder / OPEN_CLIP}: preprocess_cfg")
    if theirs is not None and "image_mean" in theirs:
        readers["hugging_face"] = lambda: from_hugging_face(theirs, size, str(folder / PREPROCESSOR))
    order = ("open_clip", "hugging_face") if naming == "open_clip" else ("hugging_face", "open_clip")
    return next((readers[name]() for name in order if name in readers), None)


def release_of(path: Path) -> Mapping[str, Any] | None:
    """What open_clip knows of a release, recognised by the name it is published under; else None.

    Names are those of downloads, and folders of the Hugging Face cache that a file lies in.
    """
    from open_clip import pretrained

    hubs = {part.removeprefix("models--").replace("--", "/") for part in path.parts if "--" in part}
    for model, tag in pretrained.list_pretrained():
        known = pretrained.get_pretrained_cfg(model, tag)
        if path.name == Path(known.get("url") or "-").name or known.get("hf_hub", "-").rstrip("/") in hubs:
            return dict(known)
    return None


def _open_clip_config(folder: Path) -> PublishedModel | None:
    content = _read(folder / OPEN_CLIP)
    if content is None:
        return None
    config = content.get("model_cfg")
    if not isinstance(config, Mapping):
        raise _no_configuration(folder / OPEN_CLIP, "it has no model_cfg")
    return PublishedModel(config, folder / OPEN_CLIP)


def _hugging_face_config(folder: Path) -> PublishedModel | None:
    content = _read(folder / HUGGING_FACE)
    if content is None or not hugging_face.is_clip(content):  # a config.json may be of anything
        return None
    return PublishedModel(
        hugging_face.open_clip_config(content, str(folder / HUGGING_FACE)), folder / HUGGING_FACE
    )


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = read_json(path, "backbone", BackboneError)
    except BackboneError as error:
        if path.name == HUGGING_FACE:
            return None
        raise _no_configuration(path, error.problem) from error
    return content if isinstance(content, dict) else None


def _no_configuration(path: Path, reason: str) -> BackboneError:
    return BackboneError(
        f"{path} is not a configuration: {reason}",
        where="backbone",
        fix="copy it again, or keep the weights in a folder without it",
    )
