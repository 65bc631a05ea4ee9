"""``cluster/launch/serve.yaml`` on a real Ray Serve."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image

import mmap_model
from mmap_model.testing.artefacts import random_artefact

if TYPE_CHECKING:
    from head import Head

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds for Ray Serve to start a copy on a busy machine."""


@pytest.fixture
def head(importable: None) -> Iterator[Head]:
    from head import head_node

    with head_node(cpus=3, python_path=str(ROOT)) as started:
        yield started


def test_the_file_deploys_the_same_application_on_ray_serve(head: Head, tmp_path: Path) -> None:
    winner = random_artefact(
        tmp_path / "winner", settings={"prompt_length": 4, "source_rows": 2, "source_cols": 32}
    )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    config = yaml.safe_load((ROOT / "cluster/launch/serve.yaml").read_text())
    assert config["applications"][0]["args"]["artefacts"] == ["winner=/shared/winner"]
    config["applications"][0]["args"]["artefacts"] = [f"winner={winner}"]
    config["http_options"]["port"] = port
    config["applications"][0]["deployments"][0]["ray_actor_options"]["num_cpus"] = 1
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config))

    def serve(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ray.serve.scripts", *arguments, "-a", head.address],
            env=head.environment(RAY_AUTH_MODE="token"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    serve("deploy", str(tmp_path / "serve.yaml"))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError):
            if ask("/healthz") == (200, {"status": "ok"}):
                break
        time.sleep(0.5)
    else:
        raise AssertionError(serve("status"))

    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(6):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(file, "PNG")
        pictures.append(file.getvalue())
    tasks = ("art", "photo", "map") * 2
    images = [
        {"data": base64.b64encode(picture).decode(), "task": task}
        for picture, task in zip(pictures, tasks, strict=True)
    ]
    status, body = ask("/v1/predict", {"images": images})
    assert status == 200, body
    classifier = mmap_model.load(winner)
    for answer, picture, task in zip(body["predictions"], pictures, tasks, strict=True):
        offline = next(iter(classifier.predict(picture, task=task)))
        told = dict(zip(answer["labels"], answer["probabilities"], strict=True))
        by_label = dict(zip(offline.labels, offline.probabilities, strict=True))
        assert told == pytest.approx(by_label, abs=1e-5)
    status, body = ask("/v1/models")
    assert status == 200 and [model["name"] for model in body["models"]] == ["winner"]
    status, body = ask("/v1/predict", {"images": images, "model": "other"})
    assert status == 422 and body["error"]["code"] == "unknown_model"
    status, body = ask("/v1/predict", {"images": [{"data": "", "task": "art"}] * 65})
    assert status == 413 and body["error"]["code"] == "too_many_images"
    assert "RUNNING" in serve("status")
    serve("shutdown", "-y")
