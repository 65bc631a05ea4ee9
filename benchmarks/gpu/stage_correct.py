"""Stage 1: the checks."""

from __future__ import annotations

from typing import Any

from checks import Bench, perform
from made import Size


def measure(device: str, tiny: bool) -> dict[str, Any]:
    found = perform(Bench(device, Size.of(tiny)))
    return {"checks": found, "failed": [n for n, f in found.items() if f["result"] == "failed"]}
