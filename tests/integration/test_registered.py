"""A registered model answers where this software is not, with the labels of the classifier."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

OURS = ("mmap_model", "orchestrator", "search_spaces", "cluster", "open_clip", "ray", "optuna")

BLOCKED = """
import sys
for _name in {names!r}:
    sys.modules[_name] = None
"""
"""Goes into sitecustomize.py: in that environment none of these can be imported, by no process."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Variables of an environment without this software."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCKED.format(names=OURS), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture
def mlflow_server(importable: None, tmp_path: Path) -> Iterator[Any]:
    from mlflow_server import Server

    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_the_registered_model_is_served_and_answers_as_the_classifier(
    mlflow_server: Any,
    tiny_study: Path,
    elsewhere: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from trained_study import train

    import mmap_model
    from orchestrator.cli.main import execute
    from orchestrator.face.stored import find_stored
    from orchestrator.study import load_plan
    from orchestrator.tracking.telling import tell_study

    monkeypatch.chdir(tmp_path)
    plan = load_plan(str(tiny_study), [f"tracking.uri={mlflow_server.uri}", f"storage={tmp_path}/runs"])
    train(plan)
    name = plan.study.name
    stored = find_stored(name, f"{tmp_path}/runs")
    assert tell_study(stored.study, stored.store, stored.ledger).told.note is None
    capfd.readouterr()
    command = ["export", name, "--storage", f"{tmp_path}/runs", "--format", "mlflow", "--out", "x", "--json"]
    assert execute([*command, "--register", "made", "--alias", "champion"]) == 0, capfd.readouterr().err
    (document,) = json.loads(capfd.readouterr().out)
    assert document["registered"]["uri"] == "models:/made@champion"
    classifier = mmap_model.load("x")
    tasks = [classifier.tasks[number % len(classifier.tasks)] for number in range(7)]
    images = [_picture(tmp_path / f"{number}.jpg", number) for number in range(7)]
    shutil.move("x", "away")

    imports = "import orchestrator"
    refused = subprocess.run([sys.executable, "-c", imports], env=elsewhere, capture_output=True, text=True)
    assert "ModuleNotFoundError" in refused.stderr, "the software is there after all"

    with _served(elsewhere | {"MLFLOW_TRACKING_URI": mlflow_server.uri}, tmp_path) as address:
        answers = _ask(address, images, tasks)
        with pytest.raises(urllib.error.HTTPError) as broken:
            _ask(address, [tiny_study], tasks[:1])
        assert broken.value.code == 400 and "image 0 cannot be decoded" in broken.value.read().decode()
    assert len(answers) == len(images)
    for image, task, answer in zip(images, tasks, answers, strict=True):
        (wanted,) = classifier.predict(image, task=task)
        assert answer["label"] == wanted.label
        assert answer["probabilities"] == pytest.approx(
            dict(zip(wanted.labels, wanted.probabilities, strict=True)), abs=1e-5
        )


def _picture(path: Path, seed: int) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((70 + 30 * seed, 90)).save(path)
    return path


class _served:
    """``mlflow models serve`` of the model by its alias; ``with`` gives its address once it answers."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._log = folder / "serve.log"
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
        command += ["-m", "models:/made@champion", "--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
            )

    def __enter__(self) -> str:
        address, until = f"http://127.0.0.1:{self._port}", time.monotonic() + 300
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"{address}/ping", timeout=5):
                    return address
            except OSError:
                assert self._process.poll() is None, self._log.read_text()[-3000:]
                time.sleep(0.5)
        self.__exit__()
        raise AssertionError(self._log.read_text()[-3000:])

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, 9)
        self._process.wait()


def _ask(address: str, images: list[Path], tasks: list[str]) -> list[dict[str, Any]]:
    rows = [
        {"image": base64.b64encode(image.read_bytes()).decode(), "task": task}
        for image, task in zip(images, tasks, strict=True)
    ]
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps({"dataframe_records": rows, "params": {"top": 5}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return list(json.load(response)["predictions"])
