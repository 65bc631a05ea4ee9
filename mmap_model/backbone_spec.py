"""Which CLIP is tuned, and the fingerprint of its weights; imports neither torch nor open_clip."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mmap_model.architecture import (
    LOCAL_DIR,
    SYMBOLS,
    Architecture,
    model_config,
    model_directory,
    parse_architecture,
    read_architecture,
    weights_in,
)
from mmap_model.errors import BackboneError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class BackboneSpec:
    """Names a CLIP.

    Attributes:
        model: ``symbols`` (ships with this package), an open_clip model name such as ``ViT-B-16-quickgelu``,
            or ``local-dir:DIR`` with ``open_clip_config.json`` and weights in DIR.
        pretrained: open_clip tag such as ``openai``, or a checkpoint file; always and only with a model name.
    """

    model: str = SYMBOLS
    pretrained: str | None = None

    def __post_init__(self) -> None:
        if self.in_directory and self.pretrained is not None:
            raise BackboneError(
                f"{self.model!r} brings its own weights, so pretrained={self.pretrained!r} would be ignored",
                where="backbone.pretrained",
                fix="remove backbone.pretrained",
            )
        if not self.in_directory and self.pretrained is None:
            raise BackboneError(
                f"{self.model!r} has no weights without a tag or file",
                where="backbone.pretrained",
                fix="add an open_clip tag (openai for ViT-B-16-quickgelu) or the path of a checkpoint file",
            )

    @property
    def in_directory(self) -> bool:
        """The configuration and the weights lie in one folder."""
        return self.model == SYMBOLS or self.model.startswith(LOCAL_DIR)

    @property
    def weights_file(self) -> Path | None:
        """The weights, or None for a tag.

        Raises:
            BackboneError: the folder or file does not exist.
        """
        if self.in_directory:
            return _weights_in(model_directory(self.model))
        assert self.pretrained is not None
        path = Path(self.pretrained).expanduser()
        if path.is_file():
            return path
        if path.suffix or os.sep in self.pretrained:
            raise BackboneError(
                f"{path} does not exist",
                where="backbone.pretrained",
                fix="give the path of a checkpoint file",
            )
        return None


def fingerprint_of(spec: BackboneSpec) -> str:
    """The ``Backbone.fingerprint`` that ``load_backbone(spec)`` would have, as cheaply as possible.

    Safetensors files are read without torch. Any other source is loaded once per machine and remembered in
    the user's cache folder until the file or the open_clip release changes.

    Raises:
        BackboneError: as ``load_backbone``.
    """
    config = model_config(spec.model)
    architecture = parse_architecture(spec.model, config)
    path = spec.weights_file
    if path is None:
        if not _place(_tag_name(spec)).is_file() and not _hub_is_reachable():
            require_weights(spec)  # at once, and not after a minute of attempts to fetch them
        return _remembered(_tag_name(spec), lambda: _loaded_fingerprint(spec))
    if path.suffix == ".safetensors":
        weights = _native_weights(path, architecture)
        if weights is not None:
            mean, std = _normalisation(spec)
            return fingerprint(architecture, config, mean=mean, std=std, weights=weights)
    return _remembered(_file_name(spec, path), lambda: _loaded_fingerprint(spec))


def fingerprint_is_known(spec: BackboneSpec) -> bool:
    """Whether ``fingerprint_of`` answers at once, without loading or fetching a CLIP."""
    path = spec.weights_file
    if spec.in_directory or (path is not None and path.suffix == ".safetensors"):
        return True
    return _place(_tag_name(spec) if path is None else _file_name(spec, path)).is_file()


def require_weights(spec: BackboneSpec) -> None:
    """Nothing is loaded and nothing is fetched: only whether the weights are on this machine.

    A tag that was never used here takes seconds to look for, because only open_clip knows its files.

    Raises:
        BackboneError: they are not; says how to get them.
    """
    if spec.weights_file is not None or _place(_tag_name(spec)).is_file() or _cached(spec):
        return
    raise BackboneError(
        f"the weights {spec.pretrained!r} of {spec.model!r} are not on this machine",
        where="backbone.pretrained",
        fix="run once with a connection: open_clip fetches them into the Hugging Face cache (HF_HOME); "
        "or copy a checkpoint file here and set backbone.pretrained to its path",
    )


def counted_parameters(spec: BackboneSpec) -> int:
    """Of the whole CLIP without unused vocabulary, see ``Architecture``."""
    return read_architecture(spec.model).counted_parameters


def fingerprint(
    architecture: Architecture,
    config: Mapping[str, Any],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: Mapping[str, np.ndarray[Any, Any]],
) -> str:
    """32 hexadecimal digits of a SHA-256 over what decides the features: shape, activation, pixels, weights.

    Weights count by their values in float32: a CLIP has one fingerprint whatever file or name it came from.
    """
    shape = asdict(architecture)
    for name in ("model", "unused_tokens"):
        del shape[name]
    described = {
        "architecture": shape,
        "quick_gelu": bool(config.get("quick_gelu", False)),
        "options": {
            f"{tower}.{key}": config.get(tower, {}).get(key)
            for tower in ("vision_cfg", "text_cfg")
            for key in ("norm_kwargs", "act_kwargs")
        },
        "mean": [round(float(v), 8) for v in mean],
        "std": [round(float(v), 8) for v in std],
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], dtype=np.float32)
        digest.update(f"\n{name} {array.size}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:32]


def _weights_in(folder: Path) -> Path:
    path = weights_in(folder)
    if path is None:
        raise BackboneError(
            f"{folder} holds no weights",
            where="backbone.model",
            fix=f"put open_clip_model.safetensors into {folder}",
        )
    return path


def _native_weights(path: Path, architecture: Architecture) -> dict[str, np.ndarray[Any, Any]] | None:
    """The tensors of a file in open_clip's own names and shapes, or None if open_clip would convert them."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        weights: dict[str, np.ndarray[Any, Any]] = load_file(path)
    except (SafetensorError, TypeError, KeyError):
        return None
    native = "visual.conv1.weight" in weights and "positional_embedding" in weights
    complete = sum(array.size for array in weights.values()) == architecture.parameters
    return weights if native and complete else None


def _normalisation(spec: BackboneSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not spec.in_directory:
        return OPENAI_MEAN, OPENAI_STD
    config = json.loads((model_directory(spec.model) / "open_clip_config.json").read_text())
    given = config.get("preprocess_cfg", {})
    return tuple(given.get("mean") or OPENAI_MEAN), tuple(given.get("std") or OPENAI_STD)


def _loaded_fingerprint(spec: BackboneSpec) -> str:
    from mmap_model.backbone import load_backbone

    return load_backbone(spec).fingerprint


def _cached(spec: BackboneSpec) -> bool:
    """Whether one of the files of a tag is in a cache of open_clip's."""
    from huggingface_hub import constants
    from open_clip.pretrained import get_pretrained_cfg

    known = get_pretrained_cfg(spec.model, str(spec.pretrained)) or {}
    hub, name = os.path.split(known.get("hf_hub") or "")
    folder = Path(constants.HF_HUB_CACHE) / f"models--{hub.replace('/', '--')}" / "snapshots"
    wanted = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    in_hub = bool(hub) and any(any(folder.glob(f"*/{file}")) for file in wanted)
    url = known.get("url")
    return in_hub or bool(url and (Path.home() / ".cache" / "clip" / Path(url).name).is_file())


def _hub_is_reachable() -> bool:
    """Whether fetching may succeed: the hub's name can be resolved, or a proxy does that."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _tag_name(spec: BackboneSpec) -> str:
    return f"{spec.model}/{spec.pretrained}/open_clip {version('open_clip_torch')}"


def _file_name(spec: BackboneSpec, path: Path) -> str:
    stat = path.stat()
    return f"{spec.model}/{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}"


def _place(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmap_model"
    return cache / "fingerprints" / hashlib.sha256(name.encode()).hexdigest()[:32]


def _remembered(name: str, compute: Callable[[], str]) -> str:
    path = _place(name)
    if path.is_file():
        return path.read_text()
    value = compute()
    with contextlib.suppress(OSError):  # a read-only home costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(value)
        Path(file.name).replace(path)
    return value
