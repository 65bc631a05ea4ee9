"""Study text: YAML with line numbers, and ``key=value`` overrides on top of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmap_model.errors import InputError
from orchestrator.notation import DEEPEST, read_document, read_value
from orchestrator.study.errors import StudyError

WORDS = frozenset({"fuse", "compute.compile"})
"""Keys that take ``on`` and ``off``, which version 1.1 of YAML reads as booleans."""


UNREPEATED = frozenset({"notify"})
"""Keys whose overrides are not repeated in an error: what was typed there by mistake may be a secret."""


@dataclass
class StudySource:
    """What a study says and where it says so.

    Attributes:
        name: file name, for messages.
        data: the parsed mapping, overrides applied.
        lines: 1-based line of each dotted key.
        overrides: the override that set a dotted key.
    """

    name: str
    data: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """``demo.yaml:12: recipe.lr``, or the override that gave the key."""
        at = key
        while at:
            if at in self.overrides and at.partition(".")[0] in UNREPEATED:
                return f"override of {key}"
            if at in self.overrides:
                return f"override {self.overrides[at]}: {key}"
            if at in self.lines:
                return f"{self.name}:{self.lines[at]}: {key}"
            at = at.rpartition(".")[0]
        return f"{self.name}: {key}" if key else self.name

    def located(self, error: InputError) -> InputError:
        """The error with file and line before its key."""
        return type(error)(error.problem, where=self.where(error.where or ""), fix=error.fix)

    def gives(self, key: str) -> bool:
        """Whether the dotted key is written in the file or in an override."""
        found: Any = self.data
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return False
            found = found[part]
        return True


def parse(text: str, name: str) -> StudySource:
    """Read YAML.

    Raises:
        StudyError: what `orchestrator.notation` refuses, nothing at all, or no mapping; names the line.
    """
    document = read_document(text, name, StudyError, WORDS)
    if document.data is None:
        raise StudyError("the file is empty", where=name, fix="give at least name: and space:")
    if not isinstance(document.data, dict):
        raise StudyError(
            f"expected a mapping, got {document.data!r}", where=name, fix="write key: value lines"
        )
    return StudySource(name, document.data, dict(document.lines))


def override(source: StudySource, overrides: Iterable[str]) -> StudySource:
    """A copy with ``key=value`` overrides applied: dotted keys (``space.0.low``), values in YAML.

    Raises:
        StudyError: no ``=``, a value that is not YAML, or a path through a value.
    """
    data = _copy(source.data)
    given: dict[str, str] = {}
    for text in overrides:
        key, equals, raw = text.partition("=")
        if not equals or not key or any(not part for part in key.split(".")):
            raise StudyError(
                "this is not an override", where=text, fix="write key=value, such as recipe.lr=0.01"
            )
        if any("\ud800" <= character <= "\udfff" for character in key):
            raise StudyError("its key is not UTF-8", where=f"override {key!a}", fix="type it again, in UTF-8")
        if key.count(".") > DEEPEST:
            raise StudyError(
                f"it has more than {DEEPEST} parts", where=f"override {key[:60]}…", fix="write it shorter"
            )
        value = read_value(raw, f"override {key}", StudyError, key=key, words=WORDS)
        _set(data, key.split("."), value, text)
        given[key] = text
    lines = {
        key: line
        for key, line in source.lines.items()
        if not any(f"{key}.".startswith(f"{k}.") for k in given)
    }
    return StudySource(source.name, data, lines, {**source.overrides, **given})


def _set(data: dict[str, Any], path: list[str], value: Any, text: str) -> None:
    at: Any = data
    for position, part in enumerate(path):
        last = position == len(path) - 1
        if isinstance(at, dict):
            if last:
                at[part] = value
            elif at.get(part) is None:
                at[part] = {}
            at = at[part]
        elif isinstance(at, list) and _is_index(part, at):
            if last:
                at[int(part)] = value
            elif isinstance(at[int(part)], str):  # a space given by its bare name takes options
                at[int(part)] = {"name": at[int(part)]}
            at = at[int(part)]
        else:
            known = f"an index from 0 to {len(at) - 1}" if isinstance(at, list) else "no further key"
            raise StudyError(
                f"{'.'.join(path[:position])} has no {part!r}",
                where=f"override {text}",
                fix=f"it takes {known}",
            )


def _is_index(part: str, of: list[Any]) -> bool:
    return part.isascii() and part.isdecimal() and len(part) < 10 and int(part) < len(of)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value
