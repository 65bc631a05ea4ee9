"""Stage 1: the checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import correct_numbers
import correct_on_cuda
from checks import CHECKS, Bench, Found, failed, perform
from made import Size

assert correct_numbers and correct_on_cuda  # their import fills CHECKS


def measure(device: str, tiny: bool, keep: Callable[[Found], None]) -> Found:
    bench = Bench(device, Size.of(tiny))
    checks = {name: partial(function, bench) for name, function in CHECKS.items()}
    found = perform(checks, lambda so_far: keep({"checks": so_far}))
    return {"checks": found, "failed": failed(found)}
