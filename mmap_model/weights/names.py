"""From what a file holds to the tensors of a CLIP under open_clip's names: one recogniser per kind.

Wrappers (``{"state_dict": …}``, ``{"model": …}``) are opened, and prefixes (``module.``, ``_orig_mod.``) cut
off where they are on every tensor. Whatever does not fit exactly is refused: nothing is left at random
values, dropped or interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mmap_model import hugging_face
from mmap_model.architecture import Architecture
from mmap_model.errors import BackboneError
from mmap_model.towers import ResNetTower
from mmap_model.weights.files import Array, RawWeights

Naming = Literal["open_clip", "hugging_face"]

ANCHORS: Mapping[Naming, str] = {"open_clip": "visual.conv1.weight", "hugging_face": hugging_face.ANCHOR}
INTEGERS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's own files hold beside the weights."""

_BUFFERS = ("attn_mask", "num_batches_tracked")
"""Ends of names of what decides no feature."""
_SHOWN = 4


@dataclass(frozen=True)
class NamedWeights:
    """The tensors of one CLIP as a file names them.

    Attributes:
        naming: whose names.
        tensors: by name without prefix, integers left out.
        integers: those of `INTEGERS` that the file holds.
    """

    naming: Naming
    tensors: Mapping[str, Any]
    integers: Mapping[str, int]


def recognise(raw: RawWeights, file: str, where: str) -> NamedWeights:
    """Find the tensors of a CLIP in what a file holds.

    Args:
        raw: content of the file.
        file, where: the file, and the key of the study that names it, for messages.

    Raises:
        BackboneError: it holds no CLIP, one tower only, or more than one set of weights.
    """
    if not isinstance(raw.content, Mapping):
        raise BackboneError(
            f"{file} holds a {_kind(raw.content)}, not the tensors of a CLIP by name",
            where=where,
            fix="give a file with the model's state_dict",
        )
    found = _sets(raw.content)
    if len(found) > 1:
        raise BackboneError(
            f"{file} holds several sets of weights: {', '.join(map(repr, sorted(found)))}",
            where=where,
            fix="save the one that is meant alone",
        )
    if not found:
        raise _no_clip(raw.content, file, where)
    (content,) = found.values()
    naming, prefix = _anchor(content)  # type: ignore[misc]
    tensors = {str(name): value for name, value in content.items()}
    if prefix:
        other = [name for name in tensors if not name.startswith(prefix)]
        if other:
            raise BackboneError(
                f"{file} names its weights {prefix}…, but holds also {_some(other)}",
                where=where,
                fix="save the model's state_dict alone",
            )
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    integers = {name: int(tensors.pop(name)) for name in INTEGERS if name in tensors}
    return NamedWeights(naming, {n: v for n, v in tensors.items() if not n.endswith(_BUFFERS)}, integers)


def fit(named: NamedWeights, architecture: Architecture, file: str, where: str) -> dict[str, Array]:
    """The weights as float32 arrays under open_clip's names, every one of them, in the model's shapes.

    Raises:
        BackboneError: tensors that are missing, left over, of another shape, not of numbers, or not finite;
            positions for another resolution or context length.
    """
    _check_integers(named, architecture, file, where)
    for name, tensor in named.tensors.items():
        if not isinstance(tensor, np.ndarray) or tensor.dtype.kind != "f":
            if named.naming == "hugging_face" and name.endswith("position_ids"):
                continue
            kind = getattr(tensor, "dtype", type(tensor).__name__)
            raise BackboneError(
                f"{name} in {file} is of {kind}, not of floating point numbers",
                where=where,
                fix="give weights in float32, float16 or bfloat16",
            )
    tensors = dict(named.tensors)
    if named.naming == "hugging_face":
        tensors = hugging_face.open_clip_tensors(tensors)
    wanted = architecture.shapes
    _check_positions(tensors, architecture, file, where)
    missing, left = [n for n in wanted if n not in tensors], [n for n in tensors if n not in wanted]
    if missing or left:
        said = [f"lacks {_some(missing)}"] * bool(missing) + [f"holds also {_some(left)}"] * bool(left)
        raise _unfit(f"{file} {' and '.join(said)}", architecture, where)
    for name, shape in wanted.items():
        if tensors[name].shape != shape and not (shape == () and tensors[name].size == 1):
            raise _unfit(
                f"{name} in {file} is {list(tensors[name].shape)}, not {list(shape)}", architecture, where
            )
        if not np.isfinite(tensors[name]).all():
            wrong = tensors[name].size - int(np.isfinite(tensors[name]).sum())
            raise BackboneError(
                f"{name} in {file} has {wrong} of {tensors[name].size} values that are NaN or infinite",
                where=where,
                fix="give weights that were saved before they diverged",
            )
    return {name: tensors[name].reshape(shape) for name, shape in wanted.items()}


def _sets(content: Mapping[Any, Any], place: str = "", depth: int = 3) -> dict[str, Mapping[Any, Any]]:
    """Dictionaries that hold a CLIP's tensors, by where they are."""
    if _anchor(content) is not None:
        return {place or "the file": content}
    if not depth:
        return {}
    found: dict[str, Mapping[Any, Any]] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _sets(value, f"{place}.{key}" if place else str(key), depth - 1)
    return found


def _anchor(content: Mapping[Any, Any]) -> tuple[Naming, str] | None:
    """Whose names a dictionary uses, and what stands before each of them."""
    for naming, anchor in ANCHORS.items():
        for name in content:
            if isinstance(name, str) and (name == anchor or name.endswith(f".{anchor}")):
                return naming, name.removesuffix(anchor)
    return None


def _check_integers(named: NamedWeights, architecture: Architecture, file: str, where: str) -> None:
    takes = {
        "input_resolution": architecture.image_size,
        "context_length": architecture.context_length,
        "vocab_size": architecture.vocab_size,
    }
    for name, told in named.integers.items():
        if told != takes[name]:
            raise _unfit(f"{file} says {name} is {told}, the model has {takes[name]}", architecture, where)


def _check_positions(tensors: Mapping[str, Array], architecture: Architecture, file: str, where: str) -> None:
    resnet = isinstance(architecture.visual, ResNetTower)
    for name, wanted, what in (
        (f"visual.{'attnpool.' * resnet}positional_embedding", architecture.patches + 1, "image"),
        ("positional_embedding", architecture.context_length, "text"),
    ):
        tensor = tensors.get(name)
        if tensor is None or tensor.ndim != 2 or len(tensor) == wanted:
            continue
        if what == "image":
            side = round(max(len(tensor) - 1, 0) ** 0.5) * architecture.patch_size
            told = f"images of {side} pixels, the model takes {architecture.image_size}"
        else:
            told = f"texts of {len(tensor)} tokens, the model takes {wanted}"
        raise _unfit(
            f"the positions in {file} are for {told}; they are not interpolated", architecture, where
        )


def _no_clip(content: Mapping[Any, Any], file: str, where: str) -> BackboneError:
    names = [str(name) for name in content]
    towers = {"text_model.": "text tower", "vision_model.": "image tower", "transformer.": "text tower"}
    tower = next((towers[t] for t in towers for name in names if name.startswith(t)), None)
    only = (
        f"only the {tower} of a CLIP"
        if tower
        else "no CLIP in the names of open_clip, OpenAI or Hugging Face"
    )
    return BackboneError(
        f"{file} holds {only}: {_some(names) if names else 'it is empty'}",
        where=where,
        fix="give the weights of a whole CLIP",
    )


def _unfit(problem: str, architecture: Architecture, where: str) -> BackboneError:
    model = architecture.model
    return BackboneError(
        f"{problem}",
        where=where,
        fix=f"give weights that fit {model}, or the model that these weights are of",
    )


def _kind(content: Any) -> str:
    return "tensor" if isinstance(content, np.ndarray) else type(content).__name__


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
