"""The application answers as the classifier does, and says what is wrong with a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import mmap_model
from mmap_model.backbone import Backbone
from mmap_model.inference.classifier import Classifier
from mmap_model.inference.predictions import Prediction
from mmap_model.testing.artefacts import random_artefact
from orchestrator.serving.app import Service, make_app
from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.models import Model, Models

TASKS = ("art", "photo", "map", "photo", "art")


def offline(classifier: Classifier, picture: bytes, task: str, top: int = 5) -> Prediction:
    return next(iter(classifier.predict(picture, task=task, top=top)))


def agrees(answer: dict[str, Any], wanted: Prediction) -> None:
    assert answer["error"] is None and answer["task"] == wanted.task
    told = dict(zip(answer["labels"], answer["probabilities"], strict=True))
    assert told == pytest.approx(dict(zip(wanted.labels, wanted.probabilities, strict=True)), abs=1e-5)
    assert answer["probabilities"] == sorted(answer["probabilities"], reverse=True)
    assert answer["label"] == answer["labels"][0] and answer["probability"] == answer["probabilities"][0]


def error_of(response: Any, status: int, code: str) -> str:
    """The message of an error that has the documented form."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "fix"}
    assert body["error"]["code"] == code
    return f"{body['error']['message']} {body['error']['fix']}"


def asks(encoded: Sequence[str], **more: Any) -> dict[str, Any]:
    return {"images": [{"data": data} for data in encoded], **more}


def test_json_with_several_tasks_is_answered_as_offline(
    serve: Any, classifiers: dict[str, Classifier], pictures: list[bytes], encoded: list[str]
) -> None:
    images = [
        {"data": data, "name": f"{task}/{n}.png", "task": task}
        for n, (data, task) in enumerate(zip(encoded, TASKS, strict=False))
    ]
    with serve() as client:
        response = client.post("/v1/predict", json={"images": images, "top": 2})
    assert response.status_code == 200
    body = response.json()
    assert body["model"] == "winner" and body["sha256"] == "sha of winner" and body["calibrated"] is True
    assert [answer["name"] for answer in body["predictions"]] == [image["name"] for image in images]
    for answer, picture, task in zip(body["predictions"], pictures, TASKS, strict=False):
        agrees(answer, offline(classifiers["winner"], picture, task, 2))


@pytest.mark.parametrize("kind", ["prompts", "torch-export", "onnx"])
def test_every_kind_is_served(
    kind: str, tiny_backbone: Backbone, pictures: list[bytes], encoded: list[str], tmp_path: Path
) -> None:
    settings = {"prompt_length": 2, "source_rows": 2, "source_cols": 8}
    folder = random_artefact(tmp_path / kind, kind, settings=settings, backbone=tiny_backbone)
    classifier = mmap_model.load(folder, backbone=tiny_backbone)
    models = Models([Model("it", "sha", classifier)])
    images = [{"data": data, "task": task} for data, task in zip(encoded, TASKS, strict=False)]
    with TestClient(make_app(Service(models, RequestLimits()))) as client:
        answers = client.post("/v1/predict", json={"images": images}).json()["predictions"]
        assert client.get("/v1/models").json()["models"][0]["kind"] == kind
    for answer, picture, task in zip(answers, pictures, TASKS, strict=False):
        agrees(answer, offline(classifier, picture, task))


def test_a_form_with_files_is_answered_as_offline(
    serve: Any, classifiers: dict[str, Classifier], pictures: list[bytes]
) -> None:
    files = [("image", (f"{n}.png", picture)) for n, picture in enumerate(pictures[:5])]
    with serve("winner", "single") as client:
        several = client.post("/v1/predict", files=files, data={"task": TASKS, "model": "winner", "top": "3"})
        one = client.post("/v1/predict", files=files, data={"task": "map", "model": "winner"})
        only = client.post("/v1/predict", files=files, data={"model": "single"})
    for n, picture in enumerate(pictures[:5]):
        agrees(several.json()["predictions"][n], offline(classifiers["winner"], picture, TASKS[n], 3))
        agrees(one.json()["predictions"][n], offline(classifiers["winner"], picture, "map"))
        agrees(only.json()["predictions"][n], offline(classifiers["single"], picture, "photo"))


def test_models_are_described(serve: Any, classifiers: dict[str, Classifier]) -> None:
    with serve("winner", "single") as client:
        models = client.get("/v1/models").json()["models"]
    artefact = classifiers["winner"].artefact
    assert [model["name"] for model in models] == ["winner", "single"]
    found = models[0]
    assert found["sha256"] == "sha of winner" and found["kind"] == "classifier"
    assert [(t["name"], tuple(t["classes"])) for t in found["tasks"]] == [
        (task.name, task.classes) for task in artefact.tasks
    ]
    assert found["versions"] == dict(artefact.versions)
    assert found["backbone"]["fingerprint"] == artefact.backbone.fingerprint


def test_health_metrics_and_the_page_of_the_interface(serve: Any, encoded: list[str]) -> None:
    with serve() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        client.post("/v1/predict", json=asks(encoded[:3], task="art"))
        client.get("/../etc/passwd")
        metrics = client.get("/metrics")
        assert client.get("/docs").status_code == 200
        page = client.get("/openapi.json").json()
    assert metrics.headers["content-type"].startswith("text/plain")
    for line in (
        'orchestrator_requests_total{code="200",path="/v1/predict"} 1.0',
        'orchestrator_requests_total{code="404",path="other"} 1.0',
        'orchestrator_images_total{model="winner",outcome="ok"} 3.0',
        'orchestrator_batch_images_sum{model="winner"} 3.0',
        "orchestrator_queue_images 0.0",
        "orchestrator_buffered_bytes 0.0",
    ):
        assert line in metrics.text.splitlines()
    assert "process_resident_memory_bytes" in metrics.text
    operation = page["paths"]["/v1/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"200", "400", "401", "408", "413", "415", "422", "429", "503"} <= set(operation["responses"])


WRONG: list[tuple[str, dict[str, Any], int, str, str]] = [
    (
        "unknown task",
        {"json": {"images": [{"data": "", "task": "phot"}]}},
        422,
        "unknown_task",
        "art, photo, map",
    ),
    ("no task", {"json": {"images": [{"data": ""}]}}, 422, "no_task", "art, photo, map"),
    ("unknown model", {"json": {"images": [{"data": ""}], "model": "m"}}, 422, "unknown_model", "winner"),
    ("unknown key", {"json": {"images": [{"data": ""}], "tops": 1}}, 422, "wrong_field", "tops"),
    ("no images", {"json": {"images": []}}, 422, "wrong_field", "images"),
    ("wrong type", {"json": {"images": [{"data": 5}]}}, 422, "wrong_field", "images.0.data"),
    ("top 0", {"json": {"images": [{"data": ""}], "top": 0}}, 422, "wrong_field", "top"),
    ("a list", {"json": []}, 422, "wrong_field", "body"),
    (
        "text",
        {"content": "{", "headers": {"content-type": "application/json"}},
        400,
        "malformed_body",
        "JSON",
    ),
    (
        "deep",
        {"content": "[" * 10**6, "headers": {"content-type": "application/json"}},
        400,
        "malformed_body",
        "",
    ),
    (
        "image/png",
        {"content": b"x", "headers": {"content-type": "image/png"}},
        415,
        "unsupported_content",
        "image/png",
    ),
    ("no type", {"content": b"x"}, 415, "unsupported_content", "application/json"),
    (
        "gzip",
        {"content": b"x", "headers": {"content-type": "application/json", "content-encoding": "gzip"}},
        415,
        "unsupported_content",
        "gzip",
    ),
    (
        "no boundary",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "malformed_body",
        "boundary",
    ),
    (
        "cut form",
        {"content": b"--b\r\nContent-Disp", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        422,
        "no_images",
        "image",
    ),
    ("no file", {"files": {"x": (None, "y")}}, 422, "unknown_field", "image, task, model, top"),
    ("text for a file", {"files": {"image": (None, "y")}}, 422, "no_images", "file"),
    ("file for a text", {"files": {"image": b"x", "task": b"x"}}, 422, "wrong_field", "task"),
    (
        "two tasks of three",
        {"files": [("image", b"x")] * 3, "data": {"task": ["art", "map"]}},
        422,
        "wrong_tasks",
        "3",
    ),
    (
        "top of a form",
        {"files": {"image": b"x"}, "data": {"task": "art", "top": "²"}},
        422,
        "wrong_field",
        "top",
    ),
    ("two models", {"files": {"image": b"x"}, "data": {"model": ["a", "b"]}}, 422, "wrong_field", "2 times"),
]


@pytest.mark.parametrize(
    ("request_", "status", "code", "said"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_what_is_wrong_with_a_request_is_said(
    request_: dict[str, Any], status: int, code: str, said: str, serve: Any
) -> None:
    with serve() as client:
        assert said in error_of(client.post("/v1/predict", **request_), status, code)
        assert client.get("/healthz").status_code == 200


def test_pages_that_are_not_there(serve: Any) -> None:
    with serve() as client:
        error_of(client.get("/v1/nothing"), 404, "no_such_page")
        assert "Method" in error_of(client.get("/v1/predict"), 405, "no_such_page")


def test_a_model_must_be_named_among_several(serve: Any, encoded: list[str]) -> None:
    with serve("winner", "single") as client:
        response = client.post("/v1/predict", json=asks(encoded[:1], task="photo"))
    assert "winner, single" in error_of(response, 422, "no_model")


def test_an_undecodable_image_is_an_error_of_its_own(
    serve: Any, classifiers: dict[str, Classifier], pictures: list[bytes], encoded: list[str]
) -> None:
    broken = [encoded[0], "no base64!", encoded[1][:40], "", encoded[2]]
    with serve() as client:
        response = client.post("/v1/predict", json=asks(broken, task="art"))
        alone = client.post("/v1/predict", json=asks(broken[2:3], task="art"))
        all_broken = client.post("/v1/predict", json=asks(broken[1:4], task="art"))
        metrics = client.get("/metrics").text
    assert response.status_code == 200
    found = response.json()["predictions"]
    agrees(found[0], offline(classifiers["winner"], pictures[0], "art"))
    agrees(found[4], offline(classifiers["winner"], pictures[2], "art"))
    for number in (1, 2, 3):
        assert found[number]["label"] is None and found[number]["labels"] == []
        assert found[number]["error"]["code"] == "undecodable_image"
        assert f"image {number}" in found[number]["error"]["message"]
    error_of(alone, 400, "undecodable_image")
    assert "none of 3 images" in error_of(all_broken, 400, "undecodable_image")
    assert 'orchestrator_images_total{model="winner",outcome="undecodable_image"} 7.0' in metrics


def test_names_of_clients_are_text_and_open_nothing(
    serve: Any, file: Any, encoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = [str(file), "../../etc/passwd", "\x1b[2Jevil\n200 OK", "ü" * 1024]
    with serve() as client, caplog.at_level("INFO", "orchestrator.serving"):
        bad = {"images": [{"data": "", "name": name, "task": "art"} for name in names]}
        good = {"images": [{"data": encoded[0], "name": name, "task": "art"} for name in names]}
        assert client.post("/v1/predict", json=bad).status_code == 400
        answers = client.post("/v1/predict", json=good).json()["predictions"]
        form = client.post("/v1/predict", files={"image": ("../../x.png", b"")}, data={"task": "art"})
    assert [answer["name"] for answer in answers] == names
    assert all(answer["error"] is None for answer in answers)
    assert "../../x.png" in error_of(form, 400, "undecodable_image")
    assert "passwd" not in caplog.text and "\x1b" not in caplog.text


def test_a_forward_that_fails_fails_its_request_and_no_other(
    serve: Any,
    encoded: list[str],
    classifiers: dict[str, Classifier],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve() as client:
        with monkeypatch.context() as patch:

            def fails(*_: Any) -> None:
                raise RuntimeError("the device is gone: secret path")

            patch.setattr(Classifier, "logits", fails)
            response = client.post("/v1/predict", json=asks(encoded[:2], task="art"))
        said = error_of(response, 500, "internal")
        assert "secret path" not in said
        assert client.post("/v1/predict", json=asks(encoded[:2], task="art")).status_code == 200
    assert "the device is gone" in caplog.text


def test_errors_are_told_in_json_whatever_the_text(serve: Any) -> None:
    with serve() as client:
        response = client.post("/v1/predict", json={"images": [{"data": "", "task": '"\\\x00é'}]})
    assert json.loads(response.content)["error"]["code"] == "unknown_task"
