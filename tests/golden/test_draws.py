"""The images drawn from Office-Home's names and counts. They may never change: recorded cells depend on them.

The tree is generated with the published number of Art's images; draws depend on names and counts alone. If
the rule itself is changed (then a `Revision` says for which cells), write them anew with

    MMAP_WRITE_GOLDEN=1 uv run pytest tests/golden
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mmap_model.configuration import Split
from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.draws import draw_task
from mmap_model.data.generated import write_office_home

GOLDEN = Path(__file__).with_name("office_home_draws.json")


def draws(root: Path) -> dict[str, Any]:
    """By split, seed and protocol: numbers and hashes of the parts' ids, and the first training images."""
    write_office_home(root, layout="dassl", tasks=("art",), side=8)
    dataset = open_dataset(DatasetSpec(name="office_home", root=str(root), tasks=("art",)))
    ids = dataset.sample_ids("art")
    found = {}
    splits = [*(Split(shots=k) for k in (1, 3, 6, 12)), Split(percent=10), Split(percent=20)]
    for protocol in ("search", "paper"):
        for split in splits:
            for seed in (1, 2, 3):
                drawn = draw_task(
                    dataset,
                    "art",
                    split=split,
                    draw_seed=seed,
                    protocol=protocol,
                    largest_shots=12,
                    largest_percent=20,
                )
                parts = {
                    name: [ids[i] for i in getattr(drawn, name).tolist()]
                    for name in ("train", "validation", "test")
                }
                found[f"{protocol} {split.label} seed {seed}"] = {
                    "images": {name: len(part) for name, part in parts.items()},
                    "sha256": {
                        name: hashlib.sha256("\n".join(part).encode()).hexdigest()[:16]
                        for name, part in parts.items()
                    },
                    "first": parts["train"][:3],
                }
    return found


def test_draws_of_office_home_are_frozen(tmp_path: Path) -> None:
    found = draws(tmp_path)
    if os.environ.get("MMAP_WRITE_GOLDEN"):
        lines = (f" {json.dumps(name)}: {json.dumps(draw)}" for name, draw in found.items())
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    golden = json.loads(GOLDEN.read_text())
    assert found == golden
    assert golden["paper 6-shot seed 1"]["images"] == {"train": 390, "validation": 0, "test": 2_037}
    assert golden["paper 12-shot seed 1"]["images"] == {"train": 780, "validation": 0, "test": 1_647}
    tests = {draw["sha256"]["test"] for name, draw in found.items() if name.startswith("search")}
    assert len(tests) == 1, "every split and seed is tested on the same images"
