"""Commands as pages write them, and what of each can be run here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))

PLACEHOLDER = re.compile(r"…|\||^[A-Z]+$|\[")
"""Words that stand for something: such a line tells how to write a command."""

ELSEWHERE = {
    "ui": ("serves pages until Ctrl-C", "tests/integration/test_ui.py"),
    "serve": ("serves until Ctrl-C", "tests/integration/test_serve.py"),
    "submit": ("needs a cluster", "tests/integration/test_submit.py"),
    "cluster check": ("needs a cluster", "tests/integration/test_cluster_check.py"),
    "selftest": ("makes studies for minutes", "tests/unit/orchestrator/statistics/test_selftest.py"),
    "notify test": ("sends a message", "tests/integration/test_notices.py"),
    "track": ("sends to a server", "tests/integration/test_track.py"),
    "transfer": ("needs a study that left classes out", "tests/unit/orchestrator/exporting/test_transfer.py"),
    "data draws import": ("needs lists from elsewhere", "tests/unit/orchestrator/test_cli_data.py"),
    "compare": ("trains on Ray", "tests/integration/test_compare.py"),
    "confirm": ("trains on Ray", "tests/integration/test_race.py"),
}
"""Commands that a test of its own runs: why not here, and which."""

DATASETS = ("office_home", "mini_domainnet", "domainnet")
"""Their images are made, at their published numbers, by tests/integration/test_real_layouts.py."""


@dataclass(frozen=True)
class Shown:
    """One command on a page.

    Attributes:
        page: relative to the repository.
        line: as it is written.
        words: of it, ``orchestrator`` left out.
    """

    page: str
    line: str
    words: tuple[str, ...]

    @property
    def is_pattern(self) -> bool:
        """Whether a word other than STUDY stands for something that a reader knows."""
        return any(PLACEHOLDER.search(word) and word != "STUDY" for word in self.words[1:] if "=" not in word)

    @property
    def elsewhere(self) -> str | None:
        """The test that runs it in place of this folder's; None if these do."""
        text = " ".join(self.words)
        if any(word.startswith("s3://") for word in self.words):
            return "tests/integration/test_object_store.py"
        if self.words[0] == "sweep" and self.words[1] in DATASETS:
            return "tests/integration/test_real_layouts.py"
        if "--register" in self.words:
            return "tests/integration/test_registered.py"
        if "warm_start" in text:
            return "tests/unit/orchestrator/test_warm_start.py"
        found = (test for name, (_, test) in ELSEWHERE.items() if f"{text} ".startswith(f"{name} "))
        return next(found, None)


def lines_of(text: str) -> Iterator[str]:
    """Lines of code blocks, continued ones joined, and code within sentences."""
    blocks = re.findall(r"^```(?:bash|console|sh)?\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    blocks.append("\n".join(line[4:] for line in rest.splitlines() if line.startswith("    ")))
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`(orchestrator [^`\n]+)`", rest)


def shown() -> list[Shown]:
    """Every command that a page shows, in order; patterns and the generated list of commands left out."""
    found: dict[str, Shown] = {}
    for page in PAGES:
        if page == "docs/commands.md":
            continue
        for line in lines_of((ROOT / page).read_text(encoding="utf-8")):
            typed = re.match(r"(?:\$ )?(?:uv run )?orchestrator ([a-z].*)", line.strip())
            if typed is None:
                continue
            command = re.split(r"\s{2,}#|\s#\s|\s2?>\s|\s\|\s|\s&&\s", typed[1])[0].strip()
            words = tuple(shlex.split(command))
            if len(words) > 1:  # a bare name in a sentence
                found.setdefault(command, Shown(page, command, words))
    return [each for each in found.values() if not each.is_pattern]
