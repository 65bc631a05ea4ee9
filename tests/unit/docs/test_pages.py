"""What pages name is there: files, headings, commands, options, keys of studies."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmap_model.errors import InputError
from orchestrator.cli import tree
from orchestrator.study import load_study

ROOT = Path(__file__).parents[3]
TOP = (
    "README.md",
    "CONTRIBUTING.md",
    "docs",
    "orchestrator",
    "mmap_model",
    "search_spaces",
    "cluster",
    "benchmarks",
)
PAGES = sorted(
    page
    for name in TOP
    for page in ([ROOT / name] if name.endswith(".md") else (ROOT / name).rglob("*.md"))
    if page.is_file()
)
MADE = runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]()
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PLACEHOLDER = re.compile(r"[A-Z]{2,}|…|\[|<")
"""Words of a usage line that stand for something."""


def outside_code(text: str) -> str:
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", "\n".join(x for x in text.splitlines() if not x.startswith("    ")))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M):
        text = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(text)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def lines_of_code(text: str) -> Iterator[str]:
    """Lines of code blocks, with what a backslash continues, and code within sentences."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    blocks.append("\n".join(line[4:] for line in rest.splitlines() if line.startswith("    ")))
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`(orchestrator [^`\n]+)`", rest)


def commands(name: str) -> list[str]:
    found = []
    for line in lines_of_code((ROOT / name).read_text(encoding="utf-8")):
        if typed := re.search(r"(?:^|(?:^|\s)uv run |^\$ )(orchestrator [a-z].*)", line.strip()):
            found.append(re.split(r"\s{2,}#|\s#\s|\s[|>]\s|\s&&\s", typed[1])[0].strip())
    return found


COMMANDS = [
    (name, line) for name in NAMES if name != "docs/commands.md" for line in dict.fromkeys(commands(name))
]


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_commands_and_options_are_there(name: str, line: str) -> None:
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError:
        pytest.fail(f"{name}: no shell reads {line!r}")
    command: Any = tree.root()
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{name}: {line!r} names no command"
        command, words = command.commands[words[0]], words[1:]
    known = {
        "-h",
        "--help",
        *(name for option in command.params for name in (*option.opts, *option.secondary_opts)),
    }
    typed = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert typed <= known, f"{name}: {line!r}"


def studies() -> list[tuple[str, str]]:
    found = []
    for name in NAMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
            if re.match(r"(#.*\n)*name: ", block):
                found.append((name, block))
    return found


@pytest.mark.parametrize(("name", "block"), studies())
def test_study_files_on_pages_are_valid(name: str, block: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
    try:
        load_study(str(tmp_path / "study.yaml"))
    except InputError as error:
        pytest.fail(f"{name}: {error}")


@pytest.mark.parametrize("name", MADE)
def test_pages_made_from_the_software_are_current(name: str) -> None:
    page = ROOT / "docs" / name
    assert page.read_text(encoding="utf-8") == MADE[name], "run: uv run python docs/generate.py"


def test_there_are_pages_commands_and_studies_to_check() -> None:
    assert len(PAGES) > 30 and len(COMMANDS) > 40 and studies()
