"""MLflow's own server in a thread of this process, with something before it that answers in its place."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

Answer = tuple[str, bytes]
"""Status line and body."""

HTML = b"<html><head><title>400 Bad Request</title></head><body>nginx s3://key:secret@bucket</body></html>"


class FaultyMlflow:
    """Serves a sqlite file until ``close``.

    Attributes:
        fault: asked about each request, by path and body; what it returns is the answer.
        loses: whether the answer of a request that MLflow has done is lost on the way.
        asked: paths of all requests, in order.
    """

    def __init__(self, database: str, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("_MLFLOW_SERVER_FILE_STORE", database)
        monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(artifacts))
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.server import app, handlers
        from werkzeug.serving import make_server

        monkeypatch.setattr(handlers, "_tracking_store", None)
        self._app = app
        self.fault: Callable[[str, bytes], Answer | None] = lambda path, body: None
        self.loses: Callable[[str], bool] = lambda path: False
        self.asked: list[str] = []
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self.uri = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        path = environ["PATH_INFO"]
        self.asked.append(path)
        answer = self.fault(path, body)
        if answer is None and self.loses(path):
            list(self._app(environ, lambda *response: None))
            answer = ("502 Bad Gateway", b"<html>the answer was lost</html>")
        if answer is None:
            found: Iterable[bytes] = self._app(environ, start_response)
            return found
        start_response(answer[0], [("Content-Type", "text/html"), ("Content-Length", str(len(answer[1])))])
        return [answer[1]]
