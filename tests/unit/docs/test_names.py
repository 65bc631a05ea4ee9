"""Names of the four packages: no two things share one, and words that hid what they meant stay away."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("mmap_model", "search_spaces", "orchestrator", "cluster")

ALONE = {
    "Classifier": "artefacts carry a copy that needs nothing of this software",
    "GroupValues": "two solvers of one protocol, each with what it asks for",
}
"""Classes of one name that cannot be confused, and why."""

HIDING = {
    "workbench": "executor",
    "purse": "budget meter",
    "sealing": "secrets",
    "unseal": "decrypt",
    "spreading": "splitting",
    "looks": "test evaluations",
    "driven": "running",
}
"""Words that are not parts of names, and what says it."""

MODULES = {"places": "paths", "own": "custom", "replaced": "patches", "drive": "invocation", **HIDING}


def files() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


@cache
def definitions(file: Path) -> list[tuple[type[ast.AST], str]]:
    """Kind and name of every class and function at the top of a file, and of the methods of its classes."""
    found: list[tuple[type[ast.AST], str]] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for inner in (node, *(node.body if isinstance(node, ast.ClassDef) else ())):
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((type(inner) if inner is node else ast.FunctionDef, inner.name))
    return found


def test_no_two_public_classes_share_a_name() -> None:
    found = defaultdict(list)
    for file in files():
        for kind, name in definitions(file):
            if kind is ast.ClassDef and not name.startswith("_"):
                found[name].append(str(file.relative_to(ROOT)))
    assert len(found) > 500
    shared = {name: where for name, where in found.items() if len(where) > 1}
    assert shared.keys() == ALONE.keys(), shared


def test_names_say_what_they_mean() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}: {name}: {HIDING[word]}"
        for file in files()
        for _, name in definitions(file)
        for word in words(name.replace("looks_like", "")) & HIDING.keys()
    ]
    wrong += [f"{file}: {MODULES[file.stem]}" for file in files() if file.stem in MODULES]
    assert not wrong


def test_pages_are_called_by_the_same_words() -> None:
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert {"custom_layout", "custom_method", "custom_space", "custom_tracker"} <= pages
    assert not [page for page in pages if words(page) & {"own", *HIDING}]


def words(name: str) -> set[str]:
    """The words of a name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
