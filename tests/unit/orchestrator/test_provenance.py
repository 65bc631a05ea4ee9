"""What a number came from can be told afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orchestrator.work.provenance import provenance

ROOT = Path(__file__).parents[3]


def test_a_checkout_says_which_commit_its_numbers_come_from() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(provenance()["commit"]).rstrip("+") == head.stdout.strip()


def test_the_threads_are_those_that_torch_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 5))
    torch.set_num_threads(before + 1)
    try:
        assert provenance()["threads"] == str(before + 1)
    finally:
        torch.set_num_threads(before)


def test_a_process_without_torch_says_what_its_environment_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delitem(sys.modules, "torch")
    assert provenance()["threads"] == "3"
