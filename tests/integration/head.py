"""A head node of a Ray cluster in processes of its own: token and dashboard on, loopback, own ports."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ATTEMPTS = 4
"""Starts of a head: Ray gives its processes 30 seconds to come up, which a busy machine may not have."""

PATIENCE = 300.0
"""Seconds for the head to come up on a busy machine."""


@dataclass(frozen=True)
class Head:
    """A running head node.

    Attributes:
        address: of its dashboard and job server.
        gcs: what ``RAY_ADDRESS`` is for drivers.
        token: that it wants.
        token_file: a file that holds it.
        folder: everything that Ray writes, logs included.
        python_path: for processes that import what is tested.
    """

    address: str
    gcs: str
    token: str
    token_file: Path
    folder: Path
    python_path: str

    def environment(self, **variables: str) -> dict[str, str]:
        """For a process that uses this cluster: nothing of the tests' own Ray, the token in a file."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        return {
            **kept,
            "PYTHONPATH": self.python_path,
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]]),
            **variables,
        }

    def orchestrator(
        self, *arguments: str, cwd: Path, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line against this cluster."""
        return subprocess.run(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=cwd,
            env=environment or self.environment(RAY_API_SERVER_ADDRESS=self.address),
            capture_output=True,
            text=True,
        )


@contextlib.contextmanager
def head_node(*, cpus: int, python_path: str) -> Iterator[Head]:
    """Start a head and end it with all its processes, and only those."""
    folder = Path(tempfile.mkdtemp(prefix="head-", dir="/tmp"))  # sockets in it have short names
    gcs, dashboard, agent, client = (_free_port() for _ in range(4))
    token = secrets.token_hex(32)
    token_file, ray_folder = folder / "token", folder / "ray"
    token_file.write_text(token)
    token_file.chmod(0o600)
    head = Head(
        f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", token, token_file, ray_folder, python_path
    )
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"),
        *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"),
        *(f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
        *("--min-worker-port=0", "--max-worker-port=0"),
        *(f"--num-cpus={cpus}", "--num-gpus=0", f"--object-store-memory={256 * 2**20}"),
        f"--temp-dir={ray_folder}",
    ]
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_worker_niceness": "0",
    }
    try:
        # Without --block: that ends the whole node when the server of Ray Client, which nobody uses, is slow.
        for attempt in range(1, ATTEMPTS + 1):
            started = subprocess.run(
                command,
                env=head.environment(**variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            if started.returncode == 0:
                break
            _end(token_file)
            assert attempt < ATTEMPTS, f"{started.returncode}: {started.stdout}"
        _wait_until_it_answers(head)
        yield head
    finally:
        _end(token_file)
        shutil.rmtree(folder, ignore_errors=True)


def _end(token_file: Path) -> None:
    """Kill what was started with this token file, which no other process has heard of."""
    mark = f"RAY_AUTH_TOKEN_PATH={token_file}\0".encode()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        ours = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdecimal() and mark in (process / "environ").read_bytes() + b"\0":
                    ours.append(int(process.name))
        if not ours:
            return
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _wait_until_it_answers(head: Head) -> None:
    import requests

    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(
                f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"}, timeout=30
            )
            if answer.status_code == 200:
                return
        time.sleep(0.3)
    raise AssertionError("no answer from the head")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
