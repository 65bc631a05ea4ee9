"""Two models behind an application, and clients of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import mmap_model
from mmap_model.backbone import Backbone
from mmap_model.inference.classifier import Classifier
from mmap_model.testing.artefacts import random_artefact
from orchestrator.serving.app import Service, make_app
from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.models import Model, Models

SETTINGS = {"prompt_length": 2, "source_rows": 2, "source_cols": 8}

Serve = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(scope="session")
def classifiers(tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    """``winner`` of three tasks, ``single`` of one."""
    made = {}
    for name, tasks in (("winner", None), ("single", {"photo": ("dog", "cat", "hen")})):
        folder = tmp_path_factory.mktemp("artefacts") / name
        more = {} if tasks is None else {"tasks": tasks}
        random_artefact(folder, settings=SETTINGS, backbone=tiny_backbone, **more)
        made[name] = mmap_model.load(folder, backbone=tiny_backbone)
    return made


@pytest.fixture
def service(classifiers: dict[str, Classifier]) -> Callable[..., Service]:
    """Makes a service of the models of those names, with those limits."""

    def make(*names: str, **limits: float) -> Service:
        models = [Model(name, f"sha of {name}", classifiers[name]) for name in names or ("winner",)]
        return Service(Models(models), RequestLimits(**limits))

    return make


@pytest.fixture
def serve(service: Callable[..., Service]) -> Serve:
    """``with serve("winner", token=None, images=3) as client``: an application with those limits."""

    @contextmanager
    def start(*names: str, token: str | None = None, **limits: float) -> Iterator[TestClient]:
        app = make_app(service(*names, **limits), token)
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client

    return start


def png(seed: int, size: tuple[int, int] = (30, 20)) -> bytes:
    """A picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """Twelve PNG files."""
    return [png(seed) for seed in range(12)]


@pytest.fixture(scope="session")
def encoded(pictures: list[bytes]) -> list[str]:
    """The same in base64."""
    return [base64.b64encode(picture).decode() for picture in pictures]


@pytest.fixture
def file(tmp_path: Path, pictures: list[bytes]) -> Path:
    (tmp_path / "one.png").write_bytes(pictures[0])
    return tmp_path / "one.png"
