"""Pages of other programs: waited for, ended with all that they started, refused where somebody listens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmap_model.errors import ConfigurationError
from orchestrator.pages.served import Served

PAGE = """
import http.server, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[2]).write_text(str(child.pid))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
"""A page, with a process of its own."""


@pytest.fixture
def port() -> Iterator[int]:
    """One that is free, and stays so once a test has begun to listen there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    yield number


def served(port: int, *command: str) -> Served:
    return Served([sys.executable, *command], f"http://127.0.0.1:{port}", host="127.0.0.1", port=port)


PATIENCE_S = 30
"""Seconds for a process to end that was told to."""


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_page_is_waited_for_and_ended_with_the_processes_that_it_started(port: int, tmp_path: Path) -> None:
    with served(port, "-c", PAGE, str(port), str(tmp_path / "child")) as page:
        page.wait()
        child = int((tmp_path / "child").read_text())
        assert is_running(child)
    until = time.monotonic() + PATIENCE_S
    while is_running(child) and time.monotonic() < until:  # it was told; a busy machine ends it later
        time.sleep(0.01)
    assert not is_running(child)


def test_a_page_that_ends_by_itself_is_an_error_with_its_last_lines(port: int) -> None:
    said = "print('no such table: s3://key:secret@bucket'); raise SystemExit(3)"
    with served(port, "-c", said) as page, pytest.raises(ConfigurationError) as caught:
        page.wait()
    assert "code 3" in caught.value.problem and "no such table: s3://bucket" in caught.value.problem


def test_a_page_that_does_not_answer_in_time_is_an_error(port: int) -> None:
    silent = served(port, "-c", "import time; time.sleep(600)")
    with silent as page, pytest.raises(ConfigurationError, match="does not answer"):
        page.wait(patience=0.0)


def test_a_taken_port_is_an_error_that_names_a_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught, served(taken, "-c", "pass"):
            pass
    assert caught.value.where == "--port" and str(taken) in caught.value.problem
    named = int(str(caught.value.fix).rpartition(" ")[2])
    with socket.socket() as free:
        free.bind(("127.0.0.1", named))


COMMAND = """
import sys
from orchestrator.pages.served import Served
port = int(sys.argv[1])
with Served([sys.executable, *sys.argv[2:]], f"http://127.0.0.1:{port}", host="127.0.0.1", port=port) as page:
    page.wait()
    print("answers", flush=True)
    page.watch()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_a_signal_to_the_command_ends_the_page(port: int, tmp_path: Path, number: int, code: int) -> None:
    child = tmp_path / "child"
    command = [sys.executable, "-c", COMMAND, str(port), "-c", PAGE, str(port), str(child)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None and process.stdout.readline() == b"answers\n"
        os.kill(process.pid, number)
        assert process.wait(60) == code
    assert not is_running(int(child.read_text()))
