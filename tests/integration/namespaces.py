"""A Ray cluster of nodes on one machine: each in a network namespace of its own, with its own address."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PORT = 6379

ATTEMPTS = 3
"""Starts of a node: Ray gives its processes fixed seconds to come up, which a busy machine may not have."""


def why_not() -> str:
    """Why no namespaces can be had here; empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (Debian: apt-get install iproute2)"
    name = f"orchestrator-probe-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return tried.stderr.strip()


@dataclass(frozen=True)
class Cluster:
    """Two namespaces joined by a cable; what runs in them is started and killed one by one.

    Attributes:
        head, other: names of the namespaces.
        addresses: by namespace.
        folder: everything that Ray writes.
        variables: environment of all processes.
    """

    head: str
    other: str
    addresses: dict[str, str]
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def gcs(self) -> str:
        """What ``RAY_ADDRESS`` is for drivers."""
        return f"{self.addresses[self.head]}:{PORT}"

    def command(self, namespace: str, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", namespace, sys.executable, *arguments]

    def start_node(self, namespace: str, *, cpus: int, gpus: int) -> None:
        """Start a node and wait until Ray says that it runs; its GPUs are pretended."""
        place = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        if namespace != self.head:
            place = [f"--address={self.gcs}"]
        ray = self.command(namespace, "-m", "ray.scripts.scripts", "start", *place)
        ray += [f"--node-ip-address={self.addresses[namespace]}", "--disable-usage-stats"]
        ray += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={100 * 2**20}"]
        ray += ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={self.folder / namespace}"]
        for attempt in range(1, ATTEMPTS + 1):
            started = subprocess.run(
                ray,
                env=self.variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            if started.returncode == 0:
                return
            self.kill(namespace)
            assert attempt < ATTEMPTS, started.stdout

    def pids(self, namespace: str) -> set[int]:
        found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
        return {int(pid) for pid in found.stdout.split()}

    def kill(self, namespace: str) -> None:
        """SIGKILL to everything that runs there."""
        until = time.monotonic() + 30
        while (pids := self.pids(namespace)) and time.monotonic() < until:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def drain(self, namespace: str) -> None:
        """Tell Ray that a node will be taken away, as a preemption notice does."""
        script = Path(__file__).with_name("drain.py")
        done = subprocess.run(
            self.command(self.head, str(script), self.gcs, self.addresses[namespace]),
            env=self.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def two_namespaces(**variables: str) -> Iterator[Cluster]:
    """Two namespaces without any node yet; ends with all their processes."""
    number = os.getpid() % 250
    names = (f"orch-{os.getpid()}-a", f"orch-{os.getpid()}-b")
    addresses = {name: f"10.203.{number}.{i}" for i, name in enumerate(names, start=1)}
    folder = Path(tempfile.mkdtemp(prefix="two-", dir="/tmp"))  # sockets in it have short names
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    cluster = Cluster(
        *names,
        addresses,
        folder,
        {
            **kept,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            **variables,
        },
    )
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip(*f"link add eth0 netns {names[0]} type veth peer name eth0 netns {names[1]}".split())
        for name, other in (names, names[::-1]):
            _ip("-n", name, "address", "add", f"{addresses[name]}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            # Ray finds its own address by a route to the internet.
            _ip("-n", name, "route", "add", "default", "via", addresses[other])
        yield cluster
    finally:
        for name in names:
            cluster.kill(name)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
