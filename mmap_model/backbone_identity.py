"""The fingerprint of the weights that a spec names, read once and remembered; torch only where needed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmap_model.backbone_spec import BackboneSpec
from mmap_model.errors import BackboneError, BackboneWarning
from mmap_model.fingerprint import fingerprint, fingerprint_groups

_READER = 2
"""Rises when the same files come to another fingerprint, or are refused."""
_known: dict[str, dict[str, Any]] = {}
"""Of safetensors files that this process has read, what `_computed` gives, by `_name`."""
_BESIDE = ("open_clip_config.json", "config.json", "preprocessor_config.json")
"""Files that say something of the weights in their folder."""


def fingerprint_of(spec: BackboneSpec) -> str:
    """The ``Backbone.fingerprint`` that ``load_backbone(spec)`` would have, as cheaply as possible.

    Safetensors files are read by every process, without torch. Any other source is read once per machine and
    remembered in the user's cache folder. Both until the file, what lies beside it, or the open_clip release
    changes. What could not be proven of the weights is warned of each time, as a ``BackboneWarning``.

    Raises:
        BackboneError: as ``load_backbone``.
    """
    found = _found(spec)
    for text in found["warnings"]:
        warnings.warn(text, BackboneWarning, stacklevel=2)
    return str(found["fingerprint"])


def weight_groups(spec: BackboneSpec) -> dict[str, str]:
    """Hashes of what the fingerprint is made of, by the part of the model: where two fingerprints differ.

    Raises:
        BackboneError: as ``load_backbone``.
    """
    return dict(_found(spec)["groups"])


def forget_fingerprint(spec: BackboneSpec) -> None:
    """Forget what was remembered of weights that turn out to be others."""
    _known.clear()
    with contextlib.suppress(OSError):
        _place(_name(spec)).unlink(missing_ok=True)


def fingerprint_is_known(spec: BackboneSpec) -> bool:
    """Whether ``fingerprint_of`` answers at once, without loading or fetching a CLIP."""
    return _is_quick(spec) or _place(_name(spec)).is_file()


def require_weights(spec: BackboneSpec) -> None:
    """Nothing is loaded and nothing is fetched: only whether the weights are on this machine.

    A tag that was never used here takes seconds to look for, because only open_clip knows its files.

    Raises:
        BackboneError: they are not, or a file is no weights by its first bytes; says how to get them.
    """
    from mmap_model.weights.files import kind_of

    path = spec.weights_file
    if path is not None:
        kind_of(path, "backbone.pretrained" if spec.pretrained else "backbone.model")
    if path is not None or _place(_name(spec)).is_file() or _cached(spec):
        return
    raise BackboneError(
        f"the weights {spec.pretrained!r} of {spec.model!r} are not on this machine",
        where="backbone.pretrained",
        fix="run once with a connection: open_clip fetches them into the Hugging Face cache (HF_HOME); "
        "or copy a checkpoint file here and set backbone.pretrained to its path",
    )


def _is_quick(spec: BackboneSpec) -> bool:
    path = spec.weights_file
    return path is not None and path.suffix == ".safetensors"


def _found(spec: BackboneSpec) -> dict[str, Any]:
    """What `_computed` gives; safetensors files are read once by a process as long as they stay."""
    name = _name(spec)
    if spec.weights_file is None and not _place(name).is_file() and not _hub_is_reachable():
        require_weights(spec)  # at once, and not after a minute of attempts to fetch them
    if not _is_quick(spec):
        return _remembered(name, lambda: _computed(spec))
    if name not in _known:
        _known[name] = _computed(spec)
    return _known[name]


def _computed(spec: BackboneSpec) -> dict[str, Any]:
    """The fingerprint, the hashes that tell where it differs from others, and what to warn of."""
    from mmap_model.weights import load_weights

    loaded = load_weights(spec)
    value = fingerprint(
        loaded.architecture, loaded.config, preprocessing=loaded.preprocessing, weights=loaded.tensors
    )
    groups = fingerprint_groups(loaded.architecture, loaded.config, loaded.preprocessing, loaded.tensors)
    return {"fingerprint": value, "groups": groups, "warnings": list(loaded.warnings)}


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


def _name(spec: BackboneSpec) -> str:
    """Of what a remembered fingerprint depends on."""
    parts = [f"reader {_READER}", f"open_clip {version('open_clip_torch')}", spec.model, str(spec.activation)]
    path = spec.weights_file
    if path is None:
        return "/".join([*parts, str(spec.pretrained)])
    shards = sorted(path.parent.glob("*-of-*")) if path.suffix == ".json" else []
    for file in (path, *shards, *(path.parent / name for name in _BESIDE)):
        if file.is_file():
            stat = file.stat()
            # The time of the last change of the entry tells a file that was put in place with an old date.
            parts.append(f"{file.resolve()}/{stat.st_size}/{stat.st_mtime_ns}/{stat.st_ctime_ns}")
    return "/".join(parts)


def _place(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmap_model"
    return cache / "fingerprints" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _remembered(name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    path = _place(name)
    with contextlib.suppress(OSError, ValueError):
        stored = json.loads(path.read_text())
        if stored.keys() >= {"fingerprint", "groups", "warnings"}:
            return dict(stored)
    value = compute()
    with contextlib.suppress(OSError):  # a read-only home costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(value, file)
        Path(file.name).replace(path)
    return value
