"""Images per second of ``orchestrator serve`` under 32 clients, beside the bare tower and MLflow's server."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import torch
from made import SETTINGS, TASKS, make_artefact, make_photographs

import mmap_model
from mmap_model.backbone import Backbone
from mmap_model.inference.artefact import Artefact
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.predictions import Prediction
from mmap_model.testing.artefacts import random_artefact
from orchestrator.exporting.mlflow_form import MODEL, MlflowWrapping

CLIENTS, BATCH, IMAGES, ROUNDS = 32, 32, 128, 3
BY_MLFLOW = 64
"""Images of one round of MLflow's server, which takes them one by one."""

Ask = Callable[[HTTPConnection, int], dict[str, float]]
"""Sends the image of that number on a connection; what came back as probability by label."""


class Server:
    """A server in a process of its own, once it answers its health check; ``with`` ends it."""

    def __init__(self, *command: str, port: int, health: str) -> None:
        self.port = port
        # MLflow starts uvicorn by name.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": path},
        )
        while not self._answers(health):
            assert self._process.poll() is None, f"ended with {self._process.returncode}: {command}"
            time.sleep(0.02)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=600)

    def _answers(self, health: str) -> bool:
        try:
            connection = self.connect()
            connection.request("GET", health)
            return connection.getresponse().status == 200
        except OSError:
            return False


def measure(device: str) -> dict[str, Any]:
    """Ratios of images per second, medians over rounds in which all take turns."""
    with tempfile.TemporaryDirectory(prefix="mmap-serve-") as name, ExitStack() as stack:
        folder = Path(name)
        _, backbone = make_artefact(folder)
        random_artefact(folder / "served", settings=SETTINGS, tasks=TASKS, backbone=backbone)
        encoded = make_photographs(folder / "photographs", IMAGES)
        paths = sorted((folder / "photographs").iterdir())
        tasks = [list(TASKS)[n % len(TASKS)] for n in range(IMAGES)]
        classifier = mmap_model.load(folder / "served", backbone=backbone, device=device)
        offline = _offline(classifier, paths, tasks)
        pictures = [path.read_bytes() for path in paths]
        tower = classifier._engine._classifier  # type: ignore[attr-defined]
        side = classifier.image_size
        pixels = torch.rand(BATCH, 3, side, side, device=device)
        task = torch.arange(BATCH, device=device) % len(TASKS)

        started = time.perf_counter()
        ours = stack.enter_context(_ours(folder / "served", device))
        ours_ask = _asking_ours(pictures, tasks)
        ours_ask(ours.connect(), 0)
        cold = time.perf_counter() - started
        started = time.perf_counter()
        theirs = stack.enter_context(_theirs(folder, backbone))
        theirs_ask = _asking_mlflow(pictures, tasks)
        theirs_ask(theirs.connect(), 0)
        their_cold = time.perf_counter() - started

        def bare() -> None:
            with torch.no_grad():
                for _ in range(IMAGES // BATCH):
                    tower(pixels, task)
            if device != "cpu":
                torch.cuda.synchronize()

        seconds: dict[str, list[float]] = {"tower": [], "serve": [], "mlflow": []}
        waits: dict[str, list[float]] = {"serve": [], "mlflow": []}
        wrong = 0
        for number in range(ROUNDS + 1):
            begun = time.perf_counter()
            bare()
            spent = {"tower": time.perf_counter() - begun}
            for case, server, ask, count in (
                ("serve", ours, ours_ask, IMAGES),
                ("mlflow", theirs, theirs_ask, BY_MLFLOW),
            ):
                spent[case], found, answers = _load(server, ask, count)
                wrong += sum(not _same(answers[n], offline[n]) for n in range(count))
                waits[case] += found if number else []
            if number:  # the first round warms up
                for case, took in spent.items():
                    seconds[case].append(took)
        connection = ours.connect()
        connection.request("GET", "/metrics")
        batches = _mean_batch(connection.getresponse().read().decode())
    images = {"tower": IMAGES, "serve": IMAGES, "mlflow": BY_MLFLOW}
    rates = {case: images[case] / statistics.median(found) for case, found in seconds.items()}
    return {
        "clients": CLIENTS,
        "batch": BATCH,
        "images": images,
        "rounds": ROUNDS,
        "bytes_of_a_jpeg": encoded,
        "threads": torch.get_num_threads(),
        "images_per_second": rates,
        "seconds": seconds,
        "ratio_to_tower": rates["serve"] / rates["tower"],
        "ratio_to_mlflow": rates["serve"] / rates["mlflow"],
        "latency_seconds": {case: _percentiles(found) for case, found in waits.items()},
        "images_of_a_forward": batches,
        "answers_that_differ_from_offline": wrong,
        "first_answer_after_seconds": {"serve": cold, "mlflow": their_cold},
    }


def _offline(classifier: Classifier, paths: Sequence[Path], tasks: Sequence[str]) -> list[Prediction]:
    """What the artefact says of each image without a server."""
    found: dict[str, Prediction] = {}
    for task in TASKS:
        chosen = [path for path, own in zip(paths, tasks, strict=True) if own == task]
        for prediction in classifier.predict(chosen, task=task, top=65, batch=BATCH):
            found[prediction.name] = prediction
    return [found[str(path)] for path in paths]


def _ours(artefact: Path, device: str) -> Server:
    port = _free_port()
    options = ("--port", str(port), "--device", device, "--max-batch", str(BATCH))
    return Server("orchestrator", "serve", str(artefact), *options, port=port, health="/healthz")


def _theirs(folder: Path, backbone: Backbone) -> Server:
    """MLflow's own server on the same model, as ``export --format mlflow`` writes it."""
    made = folder / "made"
    made.mkdir()
    random_artefact(made / "torch-export", "torch-export", settings=SETTINGS, tasks=TASKS, backbone=backbone)
    parts = {"torch-export": Artefact.describe(made / "torch-export")}
    target = folder / "by-mlflow"
    target.mkdir()
    MlflowWrapping().fill(None, parts, made, target)  # type: ignore[arg-type]  # says nothing of the study
    port = _free_port()
    command = ("mlflow", "models", "serve", "--env-manager", "local", "-m", str(target / MODEL))
    return Server(*command, "--port", str(port), port=port, health="/ping")


def _asking_ours(pictures: Sequence[bytes], tasks: Sequence[str]) -> Ask:
    def ask(connection: HTTPConnection, number: int) -> dict[str, float]:
        parts = [
            f'--b\r\nContent-Disposition: form-data; name="task"\r\n\r\n{tasks[number]}\r\n'.encode(),
            b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n65\r\n',
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n',
            pictures[number],
            b"\r\n--b--\r\n",
        ]
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        connection.request("POST", "/v1/predict", b"".join(parts), headers)
        (answer,) = json.load(connection.getresponse())["predictions"]
        return dict(zip(answer["labels"], answer["probabilities"], strict=True))

    return ask


def _asking_mlflow(pictures: Sequence[bytes], tasks: Sequence[str]) -> Ask:
    def ask(connection: HTTPConnection, number: int) -> dict[str, float]:
        row = [base64.b64encode(pictures[number]).decode(), tasks[number]]
        table = {"columns": ["image", "task"], "data": [row]}
        body = json.dumps({"dataframe_split": table, "params": {"top": 65}})
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = json.load(connection.getresponse())["predictions"][0]
        return dict(answer["probabilities"])

    return ask


def _load(server: Server, ask: Ask, count: int) -> tuple[float, list[float], list[dict[str, float]]]:
    """Seconds, seconds of each request, and answers, of all clients together."""
    waits, answers = [0.0] * count, [{}] * count  # type: list[float], list[dict[str, float]]

    def client(first: int) -> None:
        connection = server.connect()
        for number in range(first, count, CLIENTS):
            begun = time.perf_counter()
            answers[number] = ask(connection, number)
            waits[number] = time.perf_counter() - begun
        connection.close()

    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(client, range(CLIENTS)))
    return time.perf_counter() - begun, waits, answers


def _same(answer: dict[str, float], offline: Prediction) -> bool:
    wanted = dict(zip(offline.labels, offline.probabilities, strict=True))
    return set(answer) == set(wanted) and all(abs(answer[name] - wanted[name]) < 1e-4 for name in wanted)


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    hundred = statistics.quantiles(seconds, n=100)
    return {"p50": hundred[49], "p99": hundred[98], "most": max(seconds)}


def _mean_batch(metrics: str) -> float:
    total, count = (
        float(re.search(rf"^orchestrator_batch_images_{part}{{.*}} (\S+)$", metrics, re.MULTILINE)[1])  # type: ignore[index]
        for part in ("sum", "count")
    )
    return total / count


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    before = os.getloadavg()
    print(json.dumps({**measure("cpu"), "load_average": [before, os.getloadavg()]}, indent=1))
