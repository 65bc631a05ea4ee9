"""What one node says about itself. These functions run on every node of a cluster."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from mmap_model.backbone_spec import BackboneSpec
from orchestrator.ledger.storage import open_storage
from orchestrator.redaction import redact
from orchestrator.study.machine import this_machine
from orchestrator.work.provenance import provenance

FOLDER = ".check"
"""Of the storage; begins with a dot, so no listing of records shows it."""


@dataclass(frozen=True, kw_only=True)
class NodeAnswer:
    """What a node found.

    Attributes:
        host: its name.
        time: by its clock, seconds since 1970.
        python, versions: of the interpreter and of the packages that results depend on.
        gpus: that the driver shows, whatever Ray counts.
        memory: bytes available.
        missing: places of the study that are not there, by key.
        weights: why the backbone's weights cannot be had here; empty if they can.
        free: bytes free where temporary files go.
    """

    host: str
    time: float
    python: str
    versions: dict[str, str]
    gpus: int
    memory: int
    missing: dict[str, str]
    weights: str
    free: int


def look_around(places: dict[str, str], backbone: BackboneSpec) -> NodeAnswer:
    """The answer of the node that this runs on.

    Args:
        places: paths by the key of the study that names them.
        backbone: whose weights will be loaded.
    """
    known = provenance()
    return NodeAnswer(
        host=socket.gethostname(),
        time=time.time(),
        python=known["python"] or platform.python_version(),
        versions=known["versions"],
        gpus=this_machine().gpus,
        memory=_memory(),
        missing={key: path for key, path in places.items() if not Path(path).exists()},
        weights=_why_no_weights(backbone),
        free=shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free,
    )


def write_mark(storage: str, check: str, name: str) -> str:
    """Leave a file in the storage; why that failed, or an empty text."""
    try:
        open_storage(storage).write(f"{FOLDER}/{check}/{name}", name.encode())
    except Exception as error:
        return redact(f"{type(error).__name__}: {error}")
    return ""


def read_marks(storage: str, check: str, names: Sequence[str]) -> list[str]:
    """Of the files that other nodes left, those that this node does not see as they were written."""
    place = open_storage(storage)

    def seen(name: str) -> bool:
        try:
            return place.read(f"{FOLDER}/{check}/{name}") == name.encode()
        except Exception:
            return False

    return [name for name in names if not seen(name)]


def _memory() -> int:
    """Bytes that may still be used: by the machine, or by the container if that is less."""
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = 1024 * int(line.split()[1])
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and (most := limit.read_text().strip()).isdecimal():
        available = min(available, int(most) - int(used.read_text()))
    return available


def _why_no_weights(backbone: BackboneSpec) -> str:
    """Checked without loading anything: a file, a cached download, or a server that answers."""
    from mmap_model.errors import InputError
    from mmap_model.weights.files import kind_of

    try:
        path = backbone.weights_file
        if path is not None:
            kind_of(path, "backbone.pretrained")
            return ""
    except InputError as error:
        return str(error.problem)
    from open_clip.pretrained import get_pretrained_cfg

    source = get_pretrained_cfg(backbone.model, backbone.pretrained)
    if not source:
        return f"open_clip knows no weights {backbone.pretrained!r} of {backbone.model}"
    hub, url = source.get("hf_hub", "").rstrip("/"), source.get("url", "")
    if hub and _in_hub_cache(hub):
        return ""
    if url and (Path.home() / ".cache" / "clip" / Path(urlparse(url).path).name).is_file():
        return ""
    hosts = [urlparse(_hub_endpoint()).hostname] if hub else []
    hosts += [urlparse(url).hostname] if url else []
    reasons = [reason for host in hosts if host and (reason := _why_unreachable(host))]
    return "" if len(reasons) < len(hosts) else f"not in its cache, and {'; '.join(reasons)}"


def _in_hub_cache(hub: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = "/".join(hub.split("/")[:2])
    folder = Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(path.suffix in (".safetensors", ".bin", ".pt") for path in folder.glob("*/*"))


def _hub_endpoint() -> str:
    from huggingface_hub.constants import ENDPOINT

    return str(ENDPOINT)


def _why_unreachable(host: str) -> str:
    try:
        with socket.create_connection((host, 443), timeout=5.0):
            return ""
    except OSError as error:
        return f"{host} cannot be reached ({error})"
