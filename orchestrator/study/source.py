"""Study text: YAML with line numbers, and ``key=value`` overrides on top of it.

YAML is read safely and in the sense of version 1.2: ``1e-5`` is a number, and only ``true`` and ``false`` are
booleans. A key given twice is an error, and so is a file that aliases blow up beyond ``LARGEST`` values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from mmap_model.errors import InputError
from orchestrator.study.errors import StudyError

LARGEST = 10_000
"""Values of a study, aliases written out: a few nested ones would otherwise stand for billions."""

_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for _REPLACED in [("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^({_FLOAT.pattern})$"), list("-+0123456789.")
)


@dataclass
class Source:
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


def parse(text: str, name: str) -> Source:
    """Read YAML.

    Raises:
        StudyError: not YAML, not a mapping, a key given twice, or too large; names the line.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise StudyError("the file is empty", where=name, fix="give at least name: and space:")
        lines: dict[str, int] = {}
        _check_size(node, name)
        _collect(node, "", lines, name)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise StudyError(
            f"this is not YAML: {problem}", where=f"{name}{line}", fix="correct the syntax"
        ) from error
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise StudyError(f"expected a mapping, got {data!r}", where=name, fix="write key: value lines")
    return Source(name, data, lines)


def override(source: Source, overrides: Iterable[str]) -> Source:
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
        try:
            value = yaml.load(raw, _Loader)
        except yaml.YAMLError as error:
            raise StudyError(
                f"{raw!r} is not YAML", where=f"override {key}", fix="quote the value"
            ) from error
        _set(data, key.split("."), value, text)
        given[key] = text
    lines = {
        key: line
        for key, line in source.lines.items()
        if not any(f"{key}.".startswith(f"{k}.") for k in given)
    }
    return Source(source.name, data, lines, {**source.overrides, **given})


def _check_size(root: yaml.Node, name: str) -> None:
    """Count values as if every alias were written out; one that contains itself never ends."""
    waiting: list[yaml.Node] = [root]
    count = 0
    while waiting:
        node, count = waiting.pop(), count + 1
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if count > LARGEST:
            raise StudyError(
                f"it stands for more than {LARGEST} values",
                where=f"{name}:{node.start_mark.line + 1}",
                fix="write values out instead of nesting aliases (&name, *name)",
            )


def _collect(node: yaml.Node, key: str, lines: dict[str, int], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            part = str(key_node.value)
            line = key_node.start_mark.line + 1
            if part in seen:
                raise StudyError(
                    f"key {part!r} is given twice, first in line {seen[part]}",
                    where=f"{name}:{line}: {_join(key, part)}",
                    fix="keep one of them",
                )
            seen[part] = lines[_join(key, part)] = line
            _collect(value, _join(key, part), lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[_join(key, str(index))] = value.start_mark.line + 1
            _collect(value, _join(key, str(index)), lines, name)


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
        elif isinstance(at, list) and part.isdigit() and int(part) < len(at):
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


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    return [_copy(v) for v in value] if isinstance(value, list) else value


def _join(key: str, part: str) -> str:
    return f"{key}.{part}" if key else part
