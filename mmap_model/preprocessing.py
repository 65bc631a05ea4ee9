"""How a backbone wants its images: resized to a square in which way, normalised by which means; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from mmap_model.errors import BackboneError, nearest

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Mode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
MODES: tuple[Mode, ...] = ("shortest", "longest", "squash")

_OPEN_CLIP_KEYS = frozenset({"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"})
_PILLOW: Mapping[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of filters, which Hugging Face's configurations use."""


@dataclass(frozen=True)
class Resize:
    """From an image to the square that the backbone takes; antialiased. As ``preprocess_cfg`` of open_clip.

    Attributes:
        mode: ``shortest`` (short side to the square's, then its central part), ``longest`` (long side to the
            square's, the rest filled) or ``squash`` (both sides, whatever the image's shape).
        interpolation: the filter. Random crops for training use it too.
        fill: grey level of what ``longest`` leaves open, 0 to 255.
    """

    mode: Mode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: int = 0

    def described(self) -> dict[str, Any]:
        """Keys of ``preprocess_cfg`` that are not CLIP's own; empty for its own."""
        said: dict[str, Any] = {}
        if self.mode != "shortest":
            said["resize_mode"] = self.mode
        if self.interpolation != "bicubic":
            said["interpolation"] = self.interpolation
        if self.mode == "longest" and self.fill != 0:
            said["fill_color"] = self.fill
        return said


CLIP_RESIZE = Resize()
"""CLIP's own."""


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the backbone sees it.

    Attributes:
        mean, std: per channel of pixels in [0, 1].
        resize: to the square input.
    """

    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    resize: Resize = CLIP_RESIZE

    def described(self) -> dict[str, Any]:
        """What a fingerprint is taken of: ``mean``, ``std``, and of the rest what is not CLIP's own."""
        mean, std = ([round(float(v), 8) for v in values] for values in (self.mean, self.std))
        return {"mean": mean, "std": std, **self.resize.described()}


CLIP_PREPROCESSING = Preprocessing()
"""CLIP's own."""


def from_open_clip(given: Mapping[str, Any], size: int, where: str) -> Preprocessing:
    """Read ``preprocess_cfg`` of an ``open_clip_config.json``, or what open_clip knows of a tag.

    Args:
        given: the section; keys that are missing or null are CLIP's own.
        size: side of the backbone's input, pixels.
        where: the file, for messages.

    Raises:
        BackboneError: a key or value that cannot be honoured.
    """
    values = {key: value for key, value in given.items() if value is not None}
    for key in sorted(values.keys() - _OPEN_CLIP_KEYS):
        raise _refusal(
            where, key, values[key], f"remove it if it has no effect; {nearest(key, _OPEN_CLIP_KEYS)}"
        )
    if values.get("mode", "RGB") != "RGB":
        raise _refusal(where, "mode", values["mode"], "only RGB images are supported")
    wanted = values.get("size", size)
    if wanted not in (size, [size, size], (size, size)):
        raise _refusal(where, "size", wanted, f"the model takes images of {size} pixels: set it to {size}")
    mode = values.get("resize_mode", CLIP_RESIZE.mode)
    if mode not in MODES:
        raise _refusal(where, "resize_mode", mode, f"use {', '.join(MODES)}")
    interpolation = values.get("interpolation", CLIP_RESIZE.interpolation)
    if interpolation == "random":  # open_clip draws between filters in training, and evaluates with bicubic
        interpolation = "bicubic"
    if interpolation not in _PILLOW.values():
        raise _refusal(where, "interpolation", interpolation, "use bicubic or bilinear")
    fill = values.get("fill_color", CLIP_RESIZE.fill)
    if not isinstance(fill, int) or not 0 <= fill <= 255:
        raise _refusal(where, "fill_color", fill, "use a grey level from 0 to 255")
    return Preprocessing(
        mean=_channels(where, "mean", values.get("mean", OPENAI_MEAN)),
        std=_deviations(where, "std", values.get("std", OPENAI_STD)),
        resize=Resize(cast(Mode, mode), cast(Interpolation, interpolation), fill),
    )


def from_hugging_face(given: Mapping[str, Any], size: int, where: str) -> Preprocessing:
    """Read a ``preprocessor_config.json`` of Hugging Face. Missing keys are those of its CLIPImageProcessor.

    Raises:
        BackboneError: a step or value that cannot be honoured.
    """
    for key in ("do_resize", "do_rescale", "do_normalize"):
        if given.get(key, True) is not True:
            raise _refusal(
                where, key, given[key], "only images that are resized and normalised are supported"
            )
    scale = given.get("rescale_factor", 1 / 255)
    if not isinstance(scale, int | float) or not math.isclose(scale, 1 / 255, rel_tol=1e-6):
        raise _refusal(where, "rescale_factor", scale, "only 1/255 is supported")
    if given.get("do_pad"):
        raise _refusal(where, "do_pad", given["do_pad"], "images that are padded are not supported")
    filter_ = given.get("resample", 3)
    if filter_ not in _PILLOW:
        raise _refusal(where, "resample", filter_, "use 3 (bicubic) or 2 (bilinear)")
    return Preprocessing(
        mean=_channels(where, "image_mean", given.get("image_mean", OPENAI_MEAN)),
        std=_deviations(where, "image_std", given.get("image_std", OPENAI_STD)),
        resize=Resize(_hugging_face_mode(given, size, where), _PILLOW[filter_]),
    )


def _hugging_face_mode(given: Mapping[str, Any], size: int, where: str) -> Mode:
    wanted = given.get("size", {"shortest_edge": 224})
    cropped = given.get("do_center_crop", True)
    square = given.get("crop_size", 224)
    if cropped and square not in (size, {"height": size, "width": size}):
        raise _refusal(
            where, "crop_size", square, f"the model takes images of {size} pixels: set it to {size}"
        )
    if wanted == {"height": size, "width": size}:
        return "squash"
    if cropped and wanted in (size, {"shortest_edge": size}):
        return "shortest"
    raise _refusal(
        where,
        "size",
        wanted,
        f"use {{shortest_edge: {size}}} with do_center_crop, or {{height: {size}, width: {size}}}",
    )


def _channels(where: str, key: str, value: Any) -> tuple[float, ...]:
    numbers = [value] * 3 if isinstance(value, int | float) else value
    if (
        not isinstance(numbers, list | tuple)
        or len(numbers) != 3
        or not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers)
    ):
        raise _refusal(where, key, value, "give three numbers, one per channel")
    return tuple(float(v) for v in numbers)


def _deviations(where: str, key: str, value: Any) -> tuple[float, ...]:
    numbers = _channels(where, key, value)
    if min(numbers) <= 0:
        raise _refusal(where, key, value, "give three positive numbers, one per channel")
    return numbers


def _refusal(where: str, key: str, value: Any, fix: str) -> BackboneError:
    return BackboneError(f"{key}: {value!r} cannot be honoured", where=where, fix=fix)
