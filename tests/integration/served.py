"""A server in a process of its own, and raw connections to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

PATIENCE = 120
"""Seconds after which a test gives up waiting."""


Answer = tuple[int, Mapping[str, str], Any]
"""Status, headers and body of a response; JSON is parsed."""


class Served:
    """``orchestrator serve`` on a free port; ``with`` waits until it answers, and ends it."""

    def __init__(self, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "orchestrator", "serve", *arguments, "--port", "0"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(variables or {})}
        )
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r" at http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return
        raise AssertionError("".join(self.said))

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit code, once it has ended; ``said`` is complete then."""
        assert self.process.stderr is not None
        self.said += self.process.stderr.readlines()
        return self.process.wait(PATIENCE)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Status, headers and body of a response on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(headers or {}))
            return answer(connection.getresponse())
        finally:
            connection.close()

    def predict(self, request: Mapping[str, Any], **headers: str) -> Answer:
        body = json.dumps(request).encode()
        return self.ask("POST", "/v1/predict", body, {"content-type": "application/json", **headers})

    def memory(self) -> tuple[int, int]:
        """Resident bytes of the process: now, and the most there ever were."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, most = (int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) for key in ("VmRSS", "VmHWM"))  # type: ignore[index]
        return 1024 * now, 1024 * most

    @staticmethod
    def read(connection: socket.socket) -> Answer:
        """The response on a connection to which a request was sent by hand."""
        response = HTTPResponse(connection)
        response.begin()
        return answer(response)

    @staticmethod
    def head(*lines: str, path: str = "/v1/predict", method: str = "POST") -> bytes:
        """The beginning of a request, without the empty line."""
        first = f"{method} {path} HTTP/1.1"
        return "".join(f"{line}\r\n" for line in (first, "Host: localhost", *lines)).encode()

    @staticmethod
    def form(files: Sequence[tuple[str, bytes]], **fields: str) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a form with files of those names."""
        parts = [
            f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode()
            for n, v in fields.items()
        ]
        for name, data in files:
            disposition = f'Content-Disposition: form-data; name="image"; filename="{name}"'
            parts += [f"--b\r\n{disposition}\r\nContent-Type: image/png\r\n\r\n".encode(), data, b"\r\n"]
        return b"".join([*parts, b"--b--\r\n"]), {"content-type": "multipart/form-data; boundary=b"}


def answer(response: HTTPResponse) -> Answer:
    text = response.read()
    is_json = (response.headers.get("content-type") or "").startswith("application/json")
    return response.status, response.headers, json.loads(text) if is_json else text
