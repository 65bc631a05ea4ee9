"""A study on a real head node, through Ray's job server: submitted, attached to, stopped, killed, finished.

    uv run pytest -m slow tests/integration/test_submit.py

11 minutes on 2 cores that carried a load of 14; the longest wait is for Ray and imports, not for training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.ledger import StudyStore

pytestmark = [pytest.mark.slow, pytest.mark.ray]

ROOT = Path(__file__).parents[2]

PATIENCE = 900.0
"""Seconds to wait for a moment of a study on a busy machine."""

PASSWORD = "tracking-password-that-nobody-may-read"


@pytest.fixture
def head() -> Iterator[object]:
    from head import head_node

    with head_node(cpus=2, python_path=str(ROOT)) as found:
        yield found


def test_a_study_is_submitted_once_survives_stops_and_is_finished(
    importable: None, head: object, tmp_path: Path
) -> None:
    from head import Head

    assert isinstance(head, Head)
    storage = tmp_path / "shared"
    study = ["demo", "search.trials=6", "seeds=[1,2]", "recipe.epochs=2", "search.scheduler=none"]
    study += ["finalists=1", f"storage={storage}"]
    store = StudyStore(storage, "demo")
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    environment = head.environment(
        RAY_API_SERVER_ADDRESS=head.address, MLFLOW_TRACKING_USERNAME="me", MLFLOW_TRACKING_PASSWORD=PASSWORD
    )

    def run(*arguments: str, cwd: Path = here) -> subprocess.CompletedProcess[str]:
        return head.orchestrator(*arguments, cwd=cwd, environment=environment)

    def states() -> list[str]:
        return [trial.state for trial in store.load_trials()]

    checked = run("cluster", "check", "--storage", str(storage))
    assert checked.returncode == 0 and "authentication is on" in checked.stdout, checked

    printed = [checked.stdout + checked.stderr]
    first = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "submit", *study, "--wait"],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _until(lambda: "running" in states(), first)
    attached = run("submit", *study)
    assert attached.returncode == 0 and "attached, nothing was started" in attached.stdout, attached
    other = run("submit", *study, "search.trials=7")
    assert other.returncode == 2 and "other settings" in other.stderr, other

    _until(lambda: states().count("complete") >= 1, first)
    before = time.monotonic()
    stopped = run("stop", "demo", cwd=elsewhere)
    seconds = time.monotonic() - before
    assert stopped.returncode == 0 and "stopped" in stopped.stdout, stopped
    assert seconds < 60
    printed.append(first.communicate(timeout=120)[0])
    assert first.returncode == 143 and "was stopped" in printed[-1], printed[-1]
    assert store.load_invocations()[-1].outcome == "interrupted", "it had the time to end in order"

    _plain_job(head, environment, study)
    done = states().count("complete")
    _until(lambda: states().count("complete") > done)
    _ray_job(head, environment, "stop", "plain")
    # Ray gives it three seconds, which suffice to end in order or do not: either way it goes on below.
    assert store.load_invocations()[-1].outcome in ("running", "interrupted")

    last = run("submit", *study, "--wait")
    assert last.returncode == 0, last
    assert "rank" in last.stdout and "zero-shot" in last.stdout and "Started demo-" in last.stdout
    assert states() == ["complete"] * 6
    jobs = [job for job in json.loads(run("jobs", "--json").stdout) if job["study"] == "demo"]
    assert [job["state"] for job in jobs] == ["succeeded", "stopped", "stopped"]
    stem = jobs[0]["id"].removesuffix("-2")
    assert [job["id"] for job in jobs] == [f"{stem}-2", "plain", f"{stem}-1"]

    results = subprocess.run(
        [sys.executable, "-m", "orchestrator", "results", "demo", "--storage", str(storage)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert results.returncode == 0 and "6 complete" in results.stdout, results

    refused = head.orchestrator(
        "jobs", cwd=here, environment={**environment, "RAY_AUTH_TOKEN": "not-the-token"}
    )
    assert refused.returncode == 2 and "the cluster refuses this token" in refused.stderr
    logs = run("logs", jobs[0]["id"]).stdout
    printed += [logs, last.stdout, last.stderr, refused.stdout, refused.stderr, attached.stdout]
    for secret in (head.token, PASSWORD):
        assert not [text for text in printed if secret in text]
        assert not [path for folder in (head.folder, tmp_path) for path in _files_with(secret, folder)]


def _plain_job(head: object, environment: dict[str, str], study: list[str]) -> None:
    """As anybody would start it with Ray alone, from a checkout."""
    _ray_job(
        head,
        environment,
        *("submit", "--submission-id", "plain", "--no-wait", "--working-dir", str(ROOT), "--"),
        *("python", "-m", "orchestrator", "sweep", *study),
    )


def _ray_job(head: object, environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", *arguments]
    found = subprocess.run(
        command, env={**environment, "RAY_AUTH_MODE": "token"}, capture_output=True, text=True
    )
    assert found.returncode == 0, found


def _until(moment: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + PATIENCE
    while not moment():
        assert process is None or process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "the moment never came"
        time.sleep(0.1)


def _files_with(secret: str, folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base) / name
            if path.is_file() and secret.encode() in path.read_bytes():
                yield path
