"""Values in YAML, read from files and from command lines by one reader.

YAML 1.2, core schema: ``1e-3`` is a number, only ``true`` and ``false`` are booleans. What version 1.1, by
which most tools still read, takes for another value (``010``, ``1:30``, ``yes``) is refused and both readings
are named. So are numbers that are not finite, control characters, tags, a key given twice, and text that is
too large or too deeply nested to be meant.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Never

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from mmap_model.errors import ConfigurationError, InputError

LARGEST = 10_000
"""Values of a document, aliases written out: a few nested ones would otherwise stand for billions."""

DEEPEST = 50
"""Mappings and lists within each other."""

LONGEST = 1_000_000
"""Characters of a document."""

MOST_DIGITS = 100
"""Characters of a number."""

_CORE = "tag:yaml.org,2002:"
_IMPLICIT = {
    "null": ("~|null|Null|NULL|", "~nN\0"),
    "bool": ("true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": ("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": ("<<", "<"),  # of version 1.1, and what everybody reads
}
"""The core schema: patterns of plain scalars, and the characters that these begin with."""

_OTHER_PARSER: Any = getattr(yaml, "CSafeLoader", None)
"""libyaml's, where PyYAML was built with it: what it refuses is refused here too."""

_TOO_DEEP = f"more than {DEEPEST} levels lie within each other"
_LEADING_ZERO = re.compile("[-+]?0[0-9]+")
_ESCAPED_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_VERSION_1_1 = Resolver()


@dataclass(frozen=True)
class Document:
    """What a text says: its data, and the 1-based line of each dotted key."""

    data: Any
    lines: Mapping[str, int]


def read_document(
    text: str, name: str, error: type[InputError] = ConfigurationError, words: Container[str] = ()
) -> Document:
    """Read YAML.

    Args:
        text: all of it.
        name: of the file, for messages.
        error: what to raise.
        words: dotted keys whose values are words such as ``on`` and ``off``: there these are no booleans.

    Raises:
        InputError: of the type ``error``, naming the line, the key and what to change.
    """
    reader = _Reader(name, error, words=words)
    return Document(reader.read(text), reader.lines)


def read_value(
    text: str,
    where: str,
    error: type[InputError] = ConfigurationError,
    *,
    key: str = "",
    words: Container[str] = (),
) -> Any:
    """Read one value as it is typed on a command line; no text at all is null.

    Args:
        text: the value.
        where: the option or override that gives it, for messages.
        error: what to raise.
        key: the dotted key that it belongs to.
        words: as for ``read_document``.

    Raises:
        InputError: of the type ``error``.
    """
    reader = _Reader(where, error, has_lines=False, words=words, at=key)
    value = reader.read(text)
    if lost := text[reader.end :].strip(" \n\ufeff"):
        raise error(f"{lost!r} is a comment in YAML and would be lost", where=where, fix="quote the value")
    return value


def written(text: str) -> str:
    """A text as `read_value` reads it back, quoted where it would be something else."""
    try:
        plain = read_value(text, "") == text
    except InputError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[str | None, Any]] = dict(yaml.SafeLoader.yaml_constructors)

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        # The scanner looks far ahead for keys, in quadratic time, before any event tells of the depth.
        if self.flow_level >= DEEPEST:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


def _construct_int(_: Any, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _construct_float(_: Any, node: yaml.ScalarNode) -> float:
    text = str(node.value)
    return float(text if text[-1].isdecimal() or text[-1] == "." else text.replace(".", ""))


for _name, (_pattern, _first) in _IMPLICIT.items():
    _firsts = ["" if character == "\0" else character for character in _first]
    _Loader.add_implicit_resolver(_CORE + _name, re.compile(f"^(?:{_pattern})$"), _firsts)
_Loader.add_constructor(f"{_CORE}int", _construct_int)
_Loader.add_constructor(f"{_CORE}float", _construct_float)


class _Reader:
    """Composes a text into nodes and refuses what must not be constructed."""

    def __init__(
        self,
        name: str,
        error: type[InputError],
        *,
        has_lines: bool = True,
        words: Container[str] = (),
        at: str = "",
    ) -> None:
        self._name = name
        self._error = error
        self._has_lines = has_lines
        self._words, self._at = words, at
        self.lines: dict[str, int] = {}
        self.end = 0
        """Where the value ends in the text; behind it are comments."""

    def read(self, text: str) -> Any:
        """The data; None if the text holds none."""
        if len(text) > LONGEST:
            problem = f"it has {len(text)} characters, and {LONGEST} are the most"
            self._refuse(problem, None, "is this the right file?")
        if (place := text.find("\ufeff", 1)) >= 0:  # which readers of YAML take for nothing, or for text
            line = text.count("\n", 0, place) + 1
            self._refuse("a byte-order mark (U+FEFF) stands in the middle", line, "remove it")
        try:
            self._look_through(text)
            loader = _Loader(text)
            try:
                root = loader.get_single_node()
                if root is None:
                    return None
                block = isinstance(root, yaml.CollectionNode) and not root.flow_style
                self.end = len(text) if block else root.end_mark.index
                self._check_size(root)
                self._check(root, "")
                if _OTHER_PARSER is not None:  # the two do not agree on all that is malformed
                    # JSON's two escapes for a character beyond 16 bits are one character in YAML 1.2 too.
                    for _ in yaml.parse(_ESCAPED_PAIR.sub(r"\\U0001F600", text), _OTHER_PARSER):
                        pass
                return loader.construct_document(root)
            finally:
                loader.dispose()
        except yaml.reader.ReaderError as wrong:
            code = wrong.character if isinstance(wrong.character, int) else ord(wrong.character)
            self._refuse(
                f"character U+{code:04X} is not allowed in YAML",
                text.count("\n", 0, int(wrong.position)) + 1,
                "remove it; text is UTF-8 without control characters",
            )
        except yaml.YAMLError as wrong:
            mark = getattr(wrong, "problem_mark", None)
            if mark is not None and getattr(wrong, "problem", None) == _TOO_DEEP:
                self._refuse_depth(mark.line + 1)
            problem = getattr(wrong, "problem", None) or str(wrong)
            fix = "correct the syntax" if self._has_lines else "quote the value"
            self._refuse(f"this is not YAML: {problem}", None if mark is None else mark.line + 1, fix)

    def _look_through(self, text: str) -> None:
        """Refuse depth, number and tags from the events alone, which need no recursion."""
        depth = count = 0
        for event in yaml.parse(text, _Loader):
            line = 0 if event.start_mark is None else event.start_mark.line + 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if isinstance(event, yaml.NodeEvent):
                count += 1
            if depth > DEEPEST:
                self._refuse_depth(line)
            if count > LARGEST:
                self._refuse_size(line)
            tag = getattr(event, "tag", None)
            if tag not in (None, f"{_CORE}str"):
                shown = tag.replace(_CORE, "!!")
                self._refuse(f"the tag {shown} is not taken", line, "write the plain value")

    def _check_size(self, root: yaml.Node) -> None:
        """Count values as if every alias were written out; one that contains itself never ends."""
        waiting: list[tuple[yaml.Node, int]] = [(root, 0)]
        count = 0
        while waiting:
            (node, depth), count = waiting.pop(), count + 1
            if isinstance(node, yaml.MappingNode):
                waiting += [(part, depth + 1) for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                waiting += [(part, depth + 1) for part in node.value]
            if depth > DEEPEST:
                self._refuse_depth(node.start_mark.line + 1)
            if count > LARGEST:
                self._refuse_size(node.start_mark.line + 1)

    def _check(self, node: yaml.Node, key: str) -> None:
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node, key)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self.lines[_join(key, str(index))] = value.start_mark.line + 1
                self._check(value, _join(key, str(index)))
        else:
            self._check_mapping(node, key)

    def _check_mapping(self, node: yaml.Node, key: str) -> None:
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse("a list or mapping cannot be a key", line, "write key: value", key)
            part = str(key_node.value)
            whole = _join(key, part)
            self._check_scalar(key_node, whole)
            if key_node.tag not in (f"{_CORE}str", f"{_CORE}merge"):
                kind = key_node.tag.removeprefix(_CORE)
                self._refuse(f"the key {part!r} is of type {kind}", line, f'quote it: "{part}"', whole)
            if part in seen:
                self._refuse(
                    f"key {part!r} is given twice, first in line {seen[part]}",
                    line,
                    "keep one of them",
                    whole,
                )
            seen[part] = self.lines[whole] = line
            self._check(value, whole)

    def _check_scalar(self, node: yaml.ScalarNode, key: str) -> None:
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            # JSON writes what lies beyond 16 bits as two escapes, which belong together.
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text, line = str(node.value), node.start_mark.line + 1
        kind = node.tag.removeprefix(_CORE)
        if kind in ("int", "float"):
            if len(text) > MOST_DIGITS:
                self._refuse(
                    f"{text[:20]}… is a number of {len(text)} characters", line, "write a shorter one", key
                )
            if kind == "float" and not math.isfinite(_construct_float(None, node)):
                self._refuse(f"{text} is not a finite number", line, "use a finite number", key)
        for character in text:
            if character not in "\n\t" and (unicodedata.category(character) == "Cc" or character == "\ufffd"):
                self._refuse(
                    f"{text[:60]!r} holds the control character {character!r}", line, "remove it", key
                )
        if node.style is None:
            self._check_readings(node, kind, line, key)

    def _check_readings(self, node: yaml.ScalarNode, kind: str, line: int, key: str) -> None:
        """Refuse what version 1.1 reads as another value, and numbers that begin with a zero."""
        text = str(node.value)
        tag: str = _VERSION_1_1.resolve(  # type: ignore[no-untyped-call]
            yaml.ScalarNode, text, (True, False)
        )
        zero = _LEADING_ZERO.fullmatch(text) is not None
        if kind == "bool" or not (zero or tag in (f"{_CORE}bool", f"{_CORE}int", f"{_CORE}float")):
            return
        if len(text) > MOST_DIGITS:
            problem = f"{text[:20]}… is a number of {len(text)} characters"
            self._refuse(problem, line, "write a shorter one, or quote the text", key)
        old = _construct_as_1_1(tag, text)
        if old in (True, False) and kind == "str" and _join(self._at, key) in self._words:
            return
        new = {"int": _construct_int, "float": _construct_float}.get(kind, _text)(None, node)
        if not zero and old == new and type(old) is type(new):
            return
        if zero and (kind == "str" or old == new):
            problem = f"{text} is the number {int(text)} in YAML, without its zeros"
        else:
            problem = f"{text} is {_shown(old)} in YAML 1.1 and {_shown(new)} in YAML 1.2"
        if old is True or old is False:
            fix = f'write {str(old).lower()}, or quote the word: "{text}"'
        elif zero:
            fix = f'write {int(text)} for the number, or quote the text: "{text}"'
        else:
            fix = f'write {old} for the number, or quote the text: "{text}"'
        self._refuse(problem, line, fix, key)

    def _refuse_depth(self, line: int) -> Never:
        self._refuse(_TOO_DEEP, line, "write it flatter")

    def _refuse_size(self, line: int) -> Never:
        self._refuse(
            f"it expands to more than {LARGEST} values",
            line,
            "write values out instead of nesting aliases (&name, *name)",
        )

    def _refuse(self, problem: str, line: int | None, fix: str, key: str = "") -> Never:
        at = f":{line}" if self._has_lines and line is not None else ""
        raise self._error(problem, where=f"{self._name}{at}" + (f": {key}" if key else ""), fix=fix)


def _construct_as_1_1(tag: str, text: str) -> Any:
    node = yaml.ScalarNode(tag, text)
    reader = SafeConstructor()
    match tag.removeprefix(_CORE):
        case "bool":
            return reader.construct_yaml_bool(node)
        case "int":
            return reader.construct_yaml_int(node)
        case "float":
            return reader.construct_yaml_float(node)
        case _:
            return text


def _text(_: Any, node: yaml.ScalarNode) -> str:
    return str(node.value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value!r}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _join(key: str, part: str) -> str:
    return ".".join(filter(None, (key, part)))
