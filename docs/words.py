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
    r"(?<![Tt]here )\bis no (?!evidence|longer|more)[a-z]+": "say what is expected: 'expected NAME=VALUE'",
    r"(?<![Tt]here )\bare no (?!evidence)[a-z]+s\b": "say what is expected",
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
    r"\b[Ee]nded at once\b": "killed immediately",
    r"\bfor good\b": "permanently",
    r"\bthe pool of work\b": "the work queue",
    r"\bof (?:your|one's) own\b": "custom …",
    r"\bheard of\b": "has not responded",
    r"\bsigns? of life\b": "heartbeat",
    r"\b[a-z]+(?:ed|d) no longer\b": "is no longer …",
    r"\bdid not take it\b": "refused it",
    r"\blast (?:it|they) said\b": "last log line",
    r"\b[Ww]orkbench(?:es)?\b": "executor",
    r"\bpurse\b(?! rabbit)": "budget",
    r"\b(?:un)?seal(?:s|ed|ing)?\b": "encrypt",
    r"\bdriven\b": "running",
    r"\b[Nn]obody\b": "name who, or use the passive",
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

SENTENCE = re.compile(r"[A-Za-z]{2,} (?:[^ ]+ )*?[A-Za-z]{2,} (?:[^ ]+ )*?[a-z]{2,}")
"""What reads like a text, wherever it stands: three words of letters."""


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
    """Texts of a file: of calls that show them as they are, any other with at least three words."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    name = str(file.relative_to(ROOT))
    seen: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            seen.add(node.value)  # a docstring
        elif isinstance(node, ast.Call) and SHOWN.search(ast.unparse(node.func)):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                for part, text in _texts(argument):
                    seen.update(ast.walk(part))
                    yield Found(f"{name}:{argument.lineno}", text)
    for node in ast.walk(tree):
        if node not in seen and isinstance(node, ast.Constant | ast.JoinedStr):
            for part, text in _texts(node):
                seen.update(ast.walk(part))
                if SENTENCE.search(text):
                    yield Found(f"{name}:{node.lineno}", text)


def _of_help() -> Iterator[Found]:
    from orchestrator.cli import tree

    for path, command in tree.commands(tree.root()).items():
        for paragraph in (command.help or "").split("\n\n"):
            yield Found(f"{path} --help", paragraph)


def _texts(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    """Literal texts of an expression and where they are; what is filled in shows as …."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if " " in node.value:
            yield node, node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        text = "".join(map(str, parts))
        if " " in text:
            yield node, text
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
