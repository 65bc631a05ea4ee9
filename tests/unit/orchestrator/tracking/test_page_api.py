"""What a server of MLflow is asked for the address of a study's runs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from orchestrator.tracking import Connection, TrackingError
from orchestrator.tracking.mlflow.page_api import run_addresses, study_address

TO = Connection(uri="", experiment="demo", study="a1", varies=("recipe.lr",))


class Server:
    """Knows one experiment; answers another code on request."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.pages: dict[str, Any] = {}
        self.code = 200
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = "experiment_name=demo" in self.path
                experiment = {
                    "experiment_id": "7",
                    "tags": [{"key": key, "value": value} for key, value in outer.tags.items()],
                }
                self.answer(outer.code if found else 404, {"experiment": experiment})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.endswith("/runs/search"):
                    assert "a1" in body["filter"] and "cell" in body["filter"]
                    self.answer(200, outer.pages[body.get("page_token", "")])
                    return
                assert self.path.endswith("/set-experiment-tag") and body["experiment_id"] == "7"
                outer.tags[body["key"]] = body["value"]
                self.answer(200, {})

            def answer(self, code: int, document: Any) -> None:
                outer.headers.append(dict(self.headers))
                self.send_response(code)
                self.end_headers()
                self.wfile.write(json.dumps(document).encode())

            def log_message(self, format: str, *arguments: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_the_address_is_of_the_study_and_its_views_are_made_once(server: Server) -> None:
    shown = study_address(f"http://{server.place}", TO)
    assert shown.startswith(f"http://{server.place}/#/experiments/7/runs?")
    tags = dict(server.tags)
    assert "mlflow.sharedViewState.mmap-a1-trials" in tags
    asked = len(server.headers)
    assert study_address(f"http://{server.place}", TO) == shown
    assert server.tags == tags and len(server.headers) == asked + 1, "only looked at"


def test_runs_are_found_over_all_pages_of_a_server_s_answer(server: Server) -> None:
    def page(run: str, **more: Any) -> dict[str, Any]:
        tags = [{"key": "mmap.run", "value": run}]
        return {"runs": [{"info": {"run_id": f"id-{run[-1]}"}, "data": {"tags": tags}}], **more}

    server.pages = {"": page("trial/3", next_page_token="more"), "more": page("baseline/zero_shot")}
    place = f"http://{server.place}/#/experiments/7/runs"
    assert run_addresses(f"http://{server.place}", TO) == {
        "trial/3": f"{place}/id-3?workflowType=machine_learning",
        "baseline/zero_shot": f"{place}/id-t?workflowType=machine_learning",
    }


def test_credentials_go_along_and_are_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = study_address(f"http://me:hunter2hunter2@{server.place}", TO)
    assert "hunter2" not in shown
    assert base64.b64decode(server.headers[0]["Authorization"].split()[1]) == b"me:hunter2hunter2"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    study_address(f"http://{server.place}", TO)
    assert server.headers[-1]["Authorization"] == "Bearer token"


def test_a_study_that_was_never_sent_there_is_named_with_the_command_that_sends_it(server: Server) -> None:
    other = Connection(uri="", experiment="birds", study="a1")
    with pytest.raises(TrackingError) as caught:
        study_address(f"http://{server.place}", other)
    assert "birds" in caught.value.problem and "orchestrator track birds" in str(caught.value.fix)


def test_a_server_that_does_not_answer_this_says_why(server: Server) -> None:
    server.code = 401
    with pytest.raises(TrackingError, match="401"):
        study_address(f"http://{server.place}", TO)
    server.close()
    with pytest.raises(TrackingError, match="refused"):
        study_address(f"http://{server.place}", TO)
