"""The table of README.md, from results.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from catalogue import FAULTS

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: written by run.py -->", "<!-- end of table -->"
COLUMNS = (
    "fault",
    "detected as",
    "time to recover",
    "cells lost",
    "cells finished twice",
    "epochs repeated, at most per cell",
    "MLflow duplicates",
    "was the user told",
)


def write_table(results: dict[str, Any]) -> None:
    """Replace the table in README.md."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


def table(results: dict[str, Any]) -> str:
    rows = [[*COLUMNS], ["---"] * len(COLUMNS)]
    rows += [_cells(results["faults"].get(name, {"fault": FAULTS[name].name})) for name in FAULTS]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(found: dict[str, Any]) -> list[str]:
    if "error" in found or "outcome" not in found:
        return [found["fault"], "no result" if "error" in found else "not yet measured"] + [""] * (
            len(COLUMNS) - 2
        )
    recovered = found["seconds_to_recover"]
    return [
        found["fault"],
        _plain(found["detected"]),
        "–" if recovered is None else f"{recovered:g} s",
        *(
            str(found[name])
            for name in ("cells_lost", "cells_finished_twice", "epochs_repeated", "mlflow_duplicates")
        ),
        _told(found),
    ]


def _told(found: dict[str, Any]) -> str:
    """The line by which the user learns of it; where no work stood still there is nothing to learn."""
    line = found.get("told")
    if line is None:
        return "nothing stood still"
    return f"yes: {_plain(line)}" if line else f"**no**: {_plain(' / '.join(found['seen'][:2])) or 'nothing'}"


def _plain(text: str, most: int = 240) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = " ".join(text.replace("|", "/").replace("<", "‹").split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
