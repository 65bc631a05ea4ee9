"""Files of weights: what a file is, told from its bytes and not from its name, and the tensors in it.

Pickles are read with ``weights_only=True``, and what that refuses is refused. A TorchScript archive is opened
for its tensors and never called.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmap_model.errors import BackboneError
from mmap_model.text_files import read_json

Array = npt.NDArray[Any]
WeightsKind = Literal["safetensors", "shards", "checkpoint", "torchscript"]

INDEX_SUFFIX = ".index.json"
"""Of the file that says which shard holds which tensor, as Hugging Face writes it."""

_HEAD = 512
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_AGAIN = "download or copy the file again"


@dataclass(frozen=True)
class RawWeights:
    """The content of a file of weights.

    Attributes:
        kind: how it was written.
        content: tensors by name, floating point ones as float32 arrays, others as they are; of a checkpoint
            also whatever else it holds, nested as it is.
        code: of a TorchScript archive, its source text; else empty.
    """

    kind: WeightsKind
    content: Any
    code: str = ""


def kind_of(path: Path, where: str) -> WeightsKind:
    """Say how a file of weights was written, from its first bytes.

    Raises:
        BackboneError: it is empty, cut off, or something else than weights; says what.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise BackboneError(
            f"{path} cannot be read: {error.strerror or error}", where=where, fix="check its permissions"
        ) from error
    if not size:
        raise _refusal(path, where, "is empty (0 bytes)", _AGAIN)
    if path.name.endswith(INDEX_SUFFIX):
        return "shards"
    if head.startswith(b"version https://git-lfs"):
        fix = "run `git lfs pull` in its folder"
        raise _refusal(path, where, "is a Git LFS pointer, not the weights it points to", fix)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        fix = "download the file itself (on a page of a hub: the link for raw content or download)"
        raise _refusal(path, where, "is a web page, not weights", fix)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_archive(path, where)
    if head[0] == 0x80 and head[1:2] in _PICKLE_PROTOCOLS:
        return "checkpoint"
    if size >= 8 and head[8:9] == b"{":
        (length,) = struct.unpack("<Q", head[:8])
        if 8 + length > size:
            raise _refusal(path, where, f"is cut off after {size} bytes", _AGAIN)
        return "safetensors"
    if head.startswith(b"\x1f\x8b"):
        raise _refusal(path, where, "is compressed with gzip", "unpack it")
    if head.startswith((b"\x93NUMPY", b"\x89HDF")):
        raise _refusal(path, where, "holds arrays of NumPy or HDF5", "convert it to safetensors")
    if _is_text(head):
        start = head[:60].decode("utf-8", "replace").strip().splitlines()
        raise _refusal(path, where, f"is text, not weights; it begins with {(start or [''])[0]!r}", _AGAIN)
    raise _refusal(
        path,
        where,
        "is not a file of weights",
        "give a safetensors file or a checkpoint written by torch.save",
    )


def read_weights(path: Path, where: str) -> RawWeights:
    """Read a file of weights.

    Args:
        path: the file; the index of shards stands for all of them.
        where: key of the study that names it, for messages.

    Raises:
        BackboneError: as `kind_of`; or it is damaged, or holds something else than tensors.
    """
    kind = kind_of(path, where)
    if kind == "safetensors":
        return RawWeights(kind, _safetensors(path, where))
    if kind == "shards":
        return RawWeights(kind, _shards(path, where))
    if kind == "torchscript":
        return RawWeights(kind, _torchscript(path, where), _code(path, where))
    return RawWeights(kind, _checkpoint(path, where))


def _kind_of_archive(path: Path, where: str) -> WeightsKind:
    try:
        if not zipfile.is_zipfile(path):
            raise _refusal(path, where, f"is cut off after {path.stat().st_size} bytes", _AGAIN)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, UnicodeError, NotImplementedError) as error:
        raise _damaged(path, where, error) from error
    if any(name.endswith("/constants.pkl") for name in names):
        return "torchscript"
    if any(name.endswith("data.pkl") for name in names):
        return "checkpoint"
    if any(name.endswith(".npy") for name in names):
        raise _refusal(path, where, "holds arrays of NumPy", "convert it to safetensors")
    raise _refusal(path, where, "is a zip archive without weights of torch", "unpack it")


def _safetensors(path: Path, where: str) -> dict[str, Array]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            kinds = {name: str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
            plain = {n: file.get_tensor(n) for n, kind in kinds.items() if not _needs_torch(kind)}
        if len(plain) < len(kinds):  # numpy has no bfloat16 and no 8-bit floats
            with safe_open(path, framework="pt") as file:
                plain |= {n: _array(file.get_tensor(n)) for n in kinds if n not in plain}
    except SafetensorError as error:
        raise _damaged(path, where, error) from error
    return {name: _single(array) for name, array in plain.items()}


def _needs_torch(kind: str) -> bool:
    return kind == "BF16" or kind.startswith(("F8", "F4", "F6", "C"))


def _shards(index: Path, where: str) -> dict[str, Array]:
    try:
        listed = dict(read_json(index, where, BackboneError)["weight_map"])
        places = {str(name): str(shard) for name, shard in listed.items()}
    except (BackboneError, ValueError, KeyError, TypeError) as error:
        raise _damaged(index, where, error) from error
    found: dict[str, Array] = {}
    for name in sorted(set(places.values())):
        shard = index.parent / Path(name).name
        if not shard.is_file():
            raise BackboneError(
                f"{shard} does not exist, {index.name} wants it", where=where, fix="copy all shards"
            )
        content = read_weights(shard, where).content
        if not isinstance(content, Mapping):
            raise _refusal(shard, where, f"holds a {type(content).__name__}", _AGAIN)
        found |= content
    return found


def _checkpoint(path: Path, where: str) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are refused or read all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own advice here is to load with weights_only=False, which runs what a stranger put in.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise _damaged(path, where, error) from None
        raise _refusal(
            path,
            where,
            f"holds Python objects ({named[1]}), which could run code when loaded",
            "have whoever wrote it save the tensors alone: torch.save(model.state_dict(), …), or safetensors",
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # of a damaged pickle the unpickler raises whatever its bytes lead to
        raise _damaged(path, where, error) from error
    return _arrays(content)


def _torchscript(path: Path, where: str) -> dict[str, Array]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise _damaged(path, where, error) from error
    return {name: _array(tensor) for name, tensor in state.items()}


def _code(path: Path, where: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            sources = [name for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
            return "\n".join(archive.read(name).decode("utf-8", "replace") for name in sources)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(path, where, error) from error


def _arrays(content: Any) -> Any:
    """Tensors anywhere in nested dictionaries as arrays; the rest as it is."""
    if isinstance(content, Mapping):
        return {key: _arrays(value) for key, value in content.items()}
    return _array(content) if hasattr(content, "detach") else content


def _array(tensor: Any) -> Any:
    """An array of a tensor; quantised and sparse ones as they are, to be refused by name later."""
    import torch

    if tensor.is_quantized or tensor.layout is not torch.strided:
        return tensor
    return (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).numpy()


def _single(array: Array) -> Array:
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _damaged(path: Path, where: str, error: Exception) -> BackboneError:
    reason = " ".join(str(error).splitlines()[:2])[:300] or type(error).__name__
    if "weights_only" in reason:
        reason = type(error).__name__
    return _refusal(path, where, f"is damaged or cut off: {reason}", _AGAIN)


def _refusal(path: Path, where: str, what: str, fix: str) -> BackboneError:
    return BackboneError(f"{path} {what}", where=where, fix=fix)
