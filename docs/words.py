"""List every sentence that a person may read, and those that are not plain English.

    uv run python docs/words.py              # wordings to mend, exit code 1 if there are any
    uv run python docs/words.py --all        # every string with its place

Read from the source: texts of errors and what to do about them, help, notes, progress, tables, and the pages.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("mmap_model", "search_spaces", "orchestrator", "cluster")

PATTERNS = {
    r"(?<!there )\bis no (?!longer|more)[a-z]+\b": "say what is expected: 'expected NAME=VALUE'",
    r"(?<!there )\bare no [a-z]+s\b": "say what is expected",
    r"\b(?:drives|driven by)\b": "runs",
    r"\blast words\b": "last log line",
    r"\bgoes? elsewhere\b": "is rescheduled",
    r"\b(?:every|each|a|the|one|no|first|further|earlier) looks?\b": "test-set evaluation",
    r"\blooks? at (?:the )?test\b": "test-set evaluation",
    r"\bmay go\b": "can be removed",
    r"\bthe hard way\b": "is killed",
    r"\bgoes on where\b": "resumes",
    r"\bas (?:the|it) \w+ likes\b": "chosen by …",
    r"\basked for by\b": "by",
    r"\bdoes not take or give\b": "is unreachable",
    r"\bdid not take everything\b": "has not received all updates",
    r"\bEnded at once\b": "Killed immediately",
    r"\bfor good\b": "permanently",
    r"\bthe pool of work\b": "the work queue",
    r"^#+ .*\bof (?:your|one's) own\b": "custom …",
    r"\bnobody\b": "name who, or use the passive",
    r"\bmade of them\b": "made from them",
    r"\bstands for\b": "means",
    r"\bis to (?:go|be left|be done)\b": "will be",
}
"""What to mend, and how."""

IN_SOURCE = {r"^(?:Whether|What|Where|How) [^?,]*\.$": "a sentence with a verb, or an imperative"}
"""The same of what is no running text."""

SHOWN = re.compile(
    r"(?:^|\.)(?:print|note|say|progress|add_row|Option|Argument|Typer|show_error|tell|warn|Note)$|Error$"
)
"""Calls of which the strings are shown."""


class Found(NamedTuple):
    place: str
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="every string")
    if parser.parse_args().all:
        for found in strings():
            print(f"{found.place}: {found.text}")
        return 0
    wrong = list(findings())
    for found, advice in wrong:
        print(f"{found.place}: {found.text.strip()!r}: {advice}")
    return int(bool(wrong))


def findings() -> Iterator[tuple[Found, str]]:
    """Every string that shows one of the patterns, with how to mend it."""
    for found in strings():
        patterns = PATTERNS if found.place.startswith(("docs/", "README")) else PATTERNS | IN_SOURCE
        for pattern, advice in patterns.items():
            if re.search(pattern, found.text):
                yield found, advice
                break


def strings() -> Iterator[Found]:
    """Every string that a person may read, with its place."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield from _of_source(file)
    yield from _of_help()
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        yield from _of_page(page)


def _of_source(file: Path) -> Iterator[Found]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    name = str(file.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and SHOWN.search(ast.unparse(node.func)):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                for text in _texts(argument):
                    yield Found(f"{name}:{argument.lineno}", text)


def _of_help() -> Iterator[Found]:
    from orchestrator.cli import tree

    for path, command in tree.commands(tree.root()).items():
        for paragraph in (command.help or "").split("\n\n"):
            yield Found(f"{path} --help", paragraph)


def _texts(node: ast.expr) -> Iterator[str]:
    """Literal texts of an expression; what is filled in shows as …."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if " " in node.value:
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        text = "".join(map(str, parts))
        if " " in text:
            yield text
    elif isinstance(node, ast.BinOp):
        yield from _texts(node.left)
        yield from _texts(node.right)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def _of_page(page: Path) -> Iterator[Found]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    name = str(page.relative_to(ROOT))
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith("    "):
            yield Found(f"{name}:{number}", line)


if __name__ == "__main__":
    sys.exit(main())
