"""The page of a study made by a Ray job, with records and page on a real S3, and a page of 5,000 trials.

uv run pytest -m slow tests/integration/test_report_job.py
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

from orchestrator.cli.main import execute
from orchestrator.ledger import StudyStore
from orchestrator.predicting.refs import located, split_uri
from orchestrator.study import load_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


@pytest.fixture
def bucket(importable: None, tmp_path: Path) -> Iterator[str]:
    from object_store import bucket

    with bucket(tmp_path) as uri:
        yield uri


def made(root: str | Path, trials: int) -> None:
    """Records of a study that nobody trained, under settings that can be read."""
    build = run_path(str(ROOT / "tests/unit/orchestrator/page/conftest.py"))["build"]
    build(root, "made", trials)
    StudyStore(root, "made").save_study(load_study("demo", ["name=made", f"storage={root}"]).to_plain())


@pytest.mark.ray
def test_a_job_writes_a_page_to_s3_that_holds(bucket: str, tmp_path: Path) -> None:
    from head import head_node

    made(bucket, 7)
    place, _, options = bucket.partition("?")
    page = f"{place}/out/report.html?{options}"
    job = [sys.executable, "-m", "orchestrator", "report", "made", "--storage", bucket, "--out", page]
    with head_node(cpus=2, python_path=str(ROOT)) as head:
        submit = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "job",
            "submit",
            "--address",
            head.address,
            "--",
        ]
        environment = head.environment(RAY_AUTH_MODE="token")
        done = subprocess.run([*submit, *job], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert "out/report.html (" in done.stdout + done.stderr, done
    system, path = located(*split_uri(page))
    with system.open_input_stream(path) as stream:
        text = stream.read().decode()
    assert text.count("<section id=") == 8
    assert execute(["report", "--check", page, "--storage", bucket]) == 0


def test_a_page_of_five_thousand_trials_is_small_and_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_page: Callable[..., Any]
) -> None:
    made(tmp_path / "runs", 5000)
    monkeypatch.chdir(tmp_path)
    assert execute(["report", "made"]) == 0
    page = tmp_path / "made.html"
    assert page.stat().st_size < 15 * MEGABYTE
    found = open_page(page, offline=True)
    table = found.page.locator("#ranking-table")
    assert table.locator("tbody").first.locator("tr").count() == 200
    assert "in the data only" in found.page.locator("#ranking").inner_text()
    table.get_by_role("button", name="validation").click()
    first = table.locator("tbody:first-of-type td[data-field='rank']").first
    assert first.get_attribute("data-value") == "200"
    assert found.errors == [] and found.requests == []
    assert execute(["report", "--check", "made.html"]) == 0
