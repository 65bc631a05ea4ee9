"""What is too much is refused before it is read, decoded or computed, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import sys
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from mmap_model.errors import ConfigurationError
from mmap_model.inference.classifier import Classifier
from orchestrator.serving import bodies
from orchestrator.serving.admission import Admission, Buffered
from orchestrator.serving.app import Service, make_app
from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.refusal import Refusal
from orchestrator.study.machine import Machine

TOKEN = "0123456789abcdef"
MEBIBYTE = 2**20


def error_of(response: Any, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.json()["error"]["code"] == code
    return f"{response.json()['error']['message']}"


def asks(encoded: list[str], **more: Any) -> dict[str, Any]:
    return {"images": [{"data": data} for data in encoded], "task": "art", **more}


def png_header(width: int, height: int) -> bytes:
    """A PNG that says its size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(30_000, 30_000), (8_000, 8_000), (1, 99_000_000)])
def test_an_image_of_too_many_pixels_is_413_by_its_header(
    size: tuple[int, int], serve: Any, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    original = Classifier.preprocess

    def preprocess(self: Classifier, image: Any, name: str = "image") -> Any:
        decoded.append(image)
        return original(self, image, name)

    monkeypatch.setattr(Classifier, "preprocess", preprocess)
    bomb = base64.b64encode(png_header(*size)).decode()
    with serve() as client:
        error_of(client.post("/v1/predict", json=asks([bomb])), 413, "too_many_pixels")
        assert not decoded
        mixed = client.post("/v1/predict", json=asks([bomb, encoded[0]]))
    assert mixed.status_code == 200 and len(decoded) == 1
    first, second = mixed.json()["predictions"]
    assert first["error"]["code"] == "too_many_pixels" and second["error"] is None


def test_pixels_are_counted_before_decoding(serve: Any) -> None:
    file = io.BytesIO()
    Image.new("L", (40, 30)).save(file, "PNG")
    data = [base64.b64encode(file.getvalue()).decode()]
    with serve(pixels=1199) as client:
        assert "40 × 30" in error_of(client.post("/v1/predict", json=asks(data)), 413, "too_many_pixels")
    with serve(pixels=1200) as client:
        assert client.post("/v1/predict", json=asks(data)).status_code == 200


@pytest.mark.parametrize("form", [True, False])
def test_too_many_images_are_413(form: bool, serve: Any, encoded: list[str], pictures: list[bytes]) -> None:
    with serve(images=3) as client:

        def send(count: int) -> Any:
            if form:
                files = [("image", (f"{n}.png", pictures[n])) for n in range(count)]
                return client.post("/v1/predict", files=files, data={"task": "art"})
            return client.post("/v1/predict", json=asks(encoded[:count]))

        error_of(send(4), 413, "too_many_images")
        assert send(3).status_code == 200


def test_json_of_very_many_values_is_refused_before_it_is_parsed(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(*_: Any) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(bodies.PredictRequest, "model_validate_json", parsed)
    with serve() as client:
        body = b'{"images":[' + b'{"data":""},' * 100_000 + b"{}]}"
        response = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
        error_of(response, 413, "too_many_images")


def test_too_long_fields_of_a_form_are_refused(serve: Any) -> None:
    with serve() as client:
        response = client.post("/v1/predict", files={"image": b"x"}, data={"task": "x" * 10_000})
        error_of(response, 400, "malformed_body")
        response = client.post("/v1/predict", files={"image": b"x"}, data={"task": ["x"] * 200})
        error_of(response, 400, "malformed_body")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_too_many_bytes_is_413(announced: bool, serve: Any) -> None:
    body = b" " * 20_000
    content = body if announced else (body[n : n + 1000] for n in range(0, len(body), 1000))
    with serve(bytes=10_000) as client:
        response = client.post("/v1/predict", content=content, headers={"content-type": "application/json"})
        error_of(response, 413, "too_large")
        assert response.headers.get("connection") == ("close" if announced else None)  # all of it was read
        assert "orchestrator_buffered_bytes 0.0" in client.get("/metrics").text


def test_a_full_queue_is_429_and_empties_again(
    service: Callable[..., Service], encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    original = Classifier.logits

    def held(self: Classifier, *given: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return original(self, *given)

    served = service(images=3, queue=4)
    with TestClient(make_app(served)) as client:
        monkeypatch.setattr(Classifier, "logits", held)
        answers: list[Any] = []
        first = threading.Thread(
            target=lambda: answers.append(client.post("/v1/predict", json=asks(encoded[:3])))
        )
        first.start()
        assert begun.wait(60)
        response = client.post("/v1/predict", json=asks(encoded[:2]))
        error_of(response, 429, "busy")
        assert int(response.headers["retry-after"]) > 0
        assert "orchestrator_queue_images 3.0" in client.get("/metrics").text
        served.admission.images += 1  # as a request of one image would
        error_of(client.post("/v1/predict", json=asks(encoded[:1])), 429, "busy")
        served.admission.images -= 1
        go.set()
        first.join(60)
        assert answers[0].status_code == 200
        assert client.post("/v1/predict", json=asks(encoded[:3])).status_code == 200
        assert served.admission.images == served.admission.requests == served.admission.buffered == 0


def test_bytes_of_all_requests_together_are_bounded() -> None:
    admission = Admission(RequestLimits(bytes=100, buffered=150))
    with Buffered(admission) as first, Buffered(admission) as second:
        first.add(100)
        second.add(50)
        with pytest.raises(Refusal, match="150 bytes") as refusal:
            second.add(1)
        assert refusal.value.status == 429
        assert admission.requests == 2
    assert admission.buffered == admission.requests == 0


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_a_body_that_is_too_large_is_given_back_before_its_sender_reads_why(
    kind: str, service: Callable[..., Service]
) -> None:
    """Its sender may take seconds to push the rest: what came of it is neither held nor counted meanwhile."""
    served, sent, seen = service(bytes=6 * MEBIBYTE), [], []
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    chunk = (part if kind.startswith("multipart") else b"") + bytes(MEBIBYTE)
    unused, left = sys.getrefcount(chunk), 10

    async def receive() -> Any:
        nonlocal left
        left -= 1
        if any(message["type"] == "http.response.body" for message in sent):
            seen.append((sys.getrefcount(chunk) - unused, served.admission.buffered))
        return {"type": "http.request", "body": chunk, "more_body": left > 0}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/predict",
        "raw_path": b"/v1/predict",
        "query_string": b"",
        "headers": [(b"content-type", kind.encode()), (b"transfer-encoding", b"chunked")],
    }
    asyncio.run(make_app(served)(scope, receive, send))
    assert sent[0]["status"] == 413 and left == 0
    assert len(seen) >= 2 and all(held <= 1 and counted == 0 for held, counted in seen), seen
    assert served.admission.buffered == 0


def test_the_token_is_asked_for_everywhere_but_where_nothing_is_told(
    serve: Any, encoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with serve(token=TOKEN) as client, caplog.at_level("INFO", "orchestrator.serving"):
        for wrong in (None, "", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"):
            headers = {} if wrong is None else {"authorization": wrong.encode()}
            for method, path in (
                ("POST", "/v1/predict"),
                ("GET", "/v1/models"),
                ("GET", "/metrics"),
                ("GET", "/x"),
            ):
                response = client.request(method, path, headers=headers)
                error_of(response, 401, "unauthorized")
                assert response.headers["www-authenticate"] == "Bearer"
        right = {"authorization": f"bearer {TOKEN}"}
        assert client.get("/v1/models", headers=right).status_code == 200
        assert client.post("/v1/predict", json=asks(encoded[:1]), headers=right).status_code == 200
        page = client.get("/openapi.json")
        assert client.get("/healthz").status_code == page.status_code == 200
        client.get(f"/v1/models?token={TOKEN}", headers=right)
    assert page.json()["components"]["securitySchemes"]
    assert TOKEN not in caplog.text and "/v1/models" in caplog.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8000"}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost", "sec-fetch-site": "cross-site"}, 403),
        ({"host": "localhost", "sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_web_pages_are_kept_out_of_a_server_without_a_token(
    headers: dict[str, str], status: int, service: Callable[..., Service]
) -> None:
    with TestClient(make_app(service(), local=True)) as client:
        response = client.get("/v1/models", headers=headers)
        assert response.status_code == status
        if status == 403:
            error_of(response, 403, "foreign_page")
    with TestClient(make_app(service(), TOKEN, local=True)) as client:
        right = {"authorization": f"Bearer {TOKEN}", **headers}
        assert client.get("/v1/models", headers=right).status_code == 200


def test_no_more_pixels_are_decoded_at_a_time_than_fit_into_memory(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, most, lock = 0, 0, threading.Lock()
    original = Classifier.preprocess
    full = threading.Barrier(2)

    def preprocess(self: Classifier, image: Any, name: str = "image") -> Any:
        nonlocal pixels, most
        with lock:
            pixels += 100
            most = max(most, pixels)
        full.wait(60)  # two at a time, so that the test does not pass because threads are slow
        with lock:
            pixels -= 100
        return original(self, image, name)

    monkeypatch.setattr("orchestrator.serving.pictures.this_machine", lambda: Machine(cores=8, gpus=0))
    monkeypatch.setattr(Classifier, "preprocess", preprocess)
    file = io.BytesIO()
    Image.new("L", (10, 10)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    with serve(pixels=100) as client:
        assert client.post("/v1/predict", json=asks([data] * 12)).status_code == 200
    assert most == 200


def test_a_stopping_server_answers_503_and_says_so(
    service: Callable[..., Service], encoded: list[str]
) -> None:
    from starlette.testclient import TestClient

    served = service()
    with TestClient(make_app(served)) as client:
        served.admission.draining = True
        response = client.post("/v1/predict", json=asks(encoded[:1]))
        error_of(response, 503, "stopping")
        assert int(response.headers["retry-after"]) > 0
        health = client.get("/healthz")
        assert health.status_code == 503 and health.json() == {"status": "stopping"}
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"bytes": 0}, "bytes"),
        ({"pixels": 10**9}, "pixels"),
        ({"images": 65, "queue": 64}, "queue"),
        ({"bytes": 2**30}, "buffered"),
        ({"wait": -1}, "wait"),
        ({"read": 0}, "read"),
    ],
)
def test_limits_that_fit_nothing_are_refused(given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        RequestLimits(**given)
    assert error.value.where == key
