"""A real server: many clients, attacks, and its end."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import mmap_model
from mmap_model.testing.artefacts import TASKS, random_artefact

if TYPE_CHECKING:
    from served import Served

TOKEN = "0123456789abcdef0123"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SETTINGS = {"prompt_length": 4, "source_rows": 2, "source_cols": 32}
MEBIBYTE = 2**20
GROWTH = 48 * MEBIBYTE
"""What memory may grow by under attack: less than any one body or image that is refused."""
PUSHED = 64 * MEBIBYTE
"""Bytes of a body that is too large: twice what is allowed."""


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_artefact(tmp_path_factory.mktemp("serve") / "winner", settings=SETTINGS)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(40):
        file = io.BytesIO()
        pattern = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        pattern.resize((70, 50)).save(file, "PNG")
        made.append(file.getvalue())
    return made


@pytest.fixture(scope="module")
def serve(importable: None) -> type[Served]:
    from served import Served

    return Served


@pytest.fixture(scope="module")
def server(serve: type[Served], winner: Path) -> Iterator[Served]:
    with serve(
        str(winner), "--token-from", "SERVED_TOKEN", "--read-timeout", "2", variables={"SERVED_TOKEN": TOKEN}
    ) as started:
        yield started
        started.signal(signal.SIGTERM)
        assert started.ended() == 0
        assert not any(TOKEN in line for line in started.said)


def test_many_clients_get_the_answers_of_their_own_images(
    server: Served, winner: Path, pictures: list[bytes]
) -> None:
    classifier = mmap_model.load(winner)
    tasks = list(TASKS)
    wanted = {
        (number, task): next(iter(classifier.predict(picture, task=task)))
        for number, picture in enumerate(pictures)
        for task in tasks
    }

    def client(number: int) -> list[Any]:
        found = []
        for turn in range(3):
            ids = [(number * 7 + turn * 5 + k) % len(pictures) for k in range(1 + number % 3)]
            images = [
                {
                    "name": str(n),
                    "task": tasks[(n + turn + number) % 3],
                    "data": base64.b64encode(pictures[n]).decode(),
                }
                for n in ids
            ]
            status, _, body = server.predict({"images": images}, **BEARER)
            assert status == 200, body
            assert [answer["name"] for answer in body["predictions"]] == [image["name"] for image in images]
            found += body["predictions"]
        return found

    with ThreadPoolExecutor(32) as threads:
        answers = [answer for found in threads.map(client, range(32)) for answer in found]
    assert len(answers) == sum(3 * (1 + n % 3) for n in range(32))
    for answer in answers:
        offline = wanted[int(answer["name"]), answer["task"]]
        by_label = dict(zip(offline.labels, offline.probabilities, strict=True))
        found = dict(zip(answer["labels"], answer["probabilities"], strict=True))
        assert found == pytest.approx(by_label, abs=1e-5)
    for task in tasks:  # so an answer to another image would have been seen
        of_task = [wanted[n, task] for n in range(len(pictures))]
        told = {(*one.labels, *(round(share, 4) for share in one.probabilities)) for one in of_task}
        assert len(told) == len(pictures)
    _, _, metrics = server.ask("GET", "/metrics", headers=BEARER)
    assert b"orchestrator_queue_images 0.0" in metrics


def bomb(side: int = 30_000) -> bytes:
    """A PNG that says it has side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def too_many_pixels(server: Served) -> int:
    return server.ask("POST", "/v1/predict", *signed(server.form([("x.png", bomb())], task="art")))[0]


def too_many_bytes(server: Served) -> int:
    """What a client pushes without waiting for an answer, in the seconds that it is given."""
    headers = {"content-type": "application/json", **BEARER}
    return server.ask("POST", "/v1/predict", bytes(PUSHED), headers)[0]


def too_many_bytes_in_chunks(server: Served) -> int:
    with server.connect() as connection:
        lines = ("Transfer-Encoding: chunked", "Content-Type: multipart/form-data; boundary=b", bearer())
        connection.sendall(server.head(*lines) + b"\r\n")
        part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        chunk = b"100000\r\n" + bytes(MEBIBYTE) + b"\r\n"
        for _ in range(PUSHED // MEBIBYTE):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        return server.read(connection)[0]


def wrong_content_type(server: Served) -> int:
    return server.ask("POST", "/v1/predict", bytes(MEBIBYTE), {"content-type": "text/xml", **BEARER})[0]


def path_names(server: Served) -> int:
    name = "../../../../etc/passwd"
    status, _, body = server.ask("POST", "/v1/predict", *signed(server.form([(name, b"")], task="art")))
    assert name in body["error"]["message"] and "root:" not in json.dumps(body)
    assert server.ask("GET", f"/{name}", headers=BEARER)[0] == 404
    assert server.ask("GET", "/v1/models/../../etc/passwd", headers=BEARER)[0] == 404
    return status


def missing_token(server: Served) -> int:
    assert server.ask("GET", "/v1/models", headers={"authorization": "Bearer wrong"})[0] == 401
    return server.ask("POST", "/v1/predict", bytes(20 * MEBIBYTE), {"content-type": "application/json"})[0]


def slow_headers(server: Served) -> int:
    with server.connect() as connection:
        connection.sendall(server.head())
        return server.read(connection)[0]


def slow_body(server: Served) -> int:
    with server.connect() as connection:
        connection.sendall(
            server.head("Content-Length: 1000", "Content-Type: application/json", bearer()) + b"\r\n{"
        )
        return server.read(connection)[0]


def many_values(server: Served) -> int:
    body = b'{"images":[' + b'{"data":""},' * 2_000_000 + b"{}]}"
    return server.ask("POST", "/v1/predict", body, {"content-type": "application/json", **BEARER})[0]


def no_http(server: Served) -> int:
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        return server.read(connection)[0]


ATTACKS = {
    too_many_pixels: 413,
    too_many_bytes: 413,
    too_many_bytes_in_chunks: 413,
    wrong_content_type: 415,
    path_names: 400,
    missing_token: 401,
    slow_headers: 408,
    slow_body: 408,
    many_values: 413,
    no_http: 400,
}


def test_attacks_get_4xx_take_no_memory_and_leave_it_serving(server: Served, pictures: list[bytes]) -> None:
    good = {
        "images": [{"data": base64.b64encode(picture).decode()} for picture in pictures[:8]],
        "task": "photo",
    }
    status, _, first = server.predict(good, **BEARER)
    assert status == 200
    before, _ = server.memory()
    for attack, wanted in ATTACKS.items():
        assert attack(server) == wanted, attack.__name__
        status, _, body = server.predict(good, **BEARER)
        assert status == 200, attack.__name__
        labels = [answer["label"] for answer in body["predictions"]]
        assert labels == [answer["label"] for answer in first["predictions"]]
        now, _ = server.memory()
        assert now - before < GROWTH, (attack.__name__, now - before)
    for attack in (too_many_pixels, too_many_bytes, too_many_bytes_in_chunks):
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(attack, [server] * 8)) == {413}
    assert server.memory()[0] - before < GROWTH
    assert server.predict(good, **BEARER)[0] == 200
    _, _, metrics = server.ask("GET", "/metrics", headers=BEARER)
    assert b"orchestrator_buffered_bytes 0.0" in metrics


def test_a_client_that_never_reads_is_cut_off(server: Served) -> None:
    connection = socket.socket()
    with connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", server.port))
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                connection.sendall((server.head(path="/openapi.json", method="GET") + b"\r\n") * 100)
    assert server.ask("GET", "/healthz")[0] == 200


def begun(server: Served, picture: bytes) -> tuple[socket.socket, bytes]:
    """A connection with half a request on it, and the other half."""
    body, headers = server.form([("x.png", picture)], task="photo")
    connection = server.connect()
    lines = (f"Content-Length: {len(body)}", f"Content-Type: {headers['content-type']}")
    connection.sendall(server.head(*lines, "Expect: 100-continue") + b"\r\n")
    assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it is being read
    connection.sendall(body[:50])
    return connection, body[50:]


def test_sigterm_finishes_what_has_begun_and_takes_no_more(
    serve: type[Served], winner: Path, pictures: list[bytes]
) -> None:
    with serve(str(winner)) as server:
        connection, rest = begun(server, pictures[0])
        server.signal(signal.SIGTERM)
        while server.ask("GET", "/healthz")[0] == 200:
            pass
        status, headers, body = server.predict({"images": [{"data": "", "task": "photo"}]})
        assert status == 503 and body["error"]["code"] == "stopping"
        assert int(headers["retry-after"]) > 0
        with connection:
            connection.sendall(rest)
            status, _, body = server.read(connection)
        assert status == 200 and body["predictions"][0]["label"] in TASKS["photo"]
        assert server.ended() == 0
        assert any("POST /v1/predict 200" in line for line in server.said)


def test_a_second_signal_ends_it_at_once(serve: type[Served], winner: Path, pictures: list[bytes]) -> None:
    with serve(str(winner)) as server:
        connection, _ = begun(server, pictures[0])
        with connection:
            server.signal(signal.SIGINT)
            while server.ask("GET", "/healthz")[0] == 200:
                pass
            server.signal(signal.SIGTERM)
            assert server.ended() == 128 + signal.SIGTERM


def bearer() -> str:
    return f"Authorization: Bearer {TOKEN}"


def signed(request: tuple[bytes, dict[str, str]]) -> tuple[bytes, dict[str, str]]:
    return request[0], {**request[1], **BEARER}
