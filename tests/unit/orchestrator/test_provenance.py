"""What a number came from can be told afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestrator.work.provenance import provenance

ROOT = Path(__file__).parents[3]


def test_a_checkout_says_which_commit_its_numbers_come_from() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(provenance()["commit"]).rstrip("+") == head.stdout.strip()
