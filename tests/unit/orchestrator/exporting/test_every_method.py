"""The table of methods and formats, for the formats around an exported program: each works, and agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmap_model
from mmap_model.methods import method_names
from orchestrator.exporting import checking
from orchestrator.exporting.checking import check
from orchestrator.exporting.choice import choose
from orchestrator.exporting.forms import WRAPPINGS
from orchestrator.exporting.scoring import ScoringJob, answer
from orchestrator.exporting.winner import Winner
from orchestrator.exporting.writing import write

WAYS = ("full_ft", "mmap", "tip_adapter_f", "zero_shot")
"""A tower of its own, prompts, features of images and nothing trained. Of the others, whose programs
``test_formats`` compares with what was trained, nothing reaches what is around a program but their name: they
are left to slow runs."""
METHODS = [
    pytest.param(name, marks=() if name in WAYS else pytest.mark.slow) for name in sorted(method_names())
]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exported_and_agrees(  # type: ignore[no-untyped-def]
    method: str, trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_answer", lambda job: answer(ScoringJob.read(job)))
    stored = trained(method)
    (chosen,) = choose(stored.store, stored.ledger)
    winner = Winner(stored, chosen, None)
    for kind in WRAPPINGS:
        artefact = write(winner, tmp_path / kind, kind)
        found = check(winner, tmp_path / kind)
        assert found.holds, f"{kind}: {found.in_words()}"
        assert (artefact.kind, artefact.method.name, artefact.text_tower) == (kind, method, False)
        assert mmap_model.load(tmp_path / kind).artefact.kind == "torch-export"
