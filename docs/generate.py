"""Write the pages of this folder that are made from the software itself.

uv run python docs/generate.py           # commands.md and study_files.md
uv run python docs/generate.py --check   # exit code 1 if one of them is not current
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        page = HERE / name
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            page.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"docs/{name} {'is not current: run docs/generate.py' if check else 'written'}")
    return int(check and bool(stale))


def pages() -> dict[str, str]:
    """Make every generated page, by its file's name."""
    return {"commands.md": commands_page(), "study_files.md": study_page()}


def commands_page() -> str:
    """Every command with its arguments and options."""
    from orchestrator.cli import tree

    parts = ["# Commands", f"`orchestrator COMMAND --help` says the same. {tree.EXIT_CODES}."]
    for path, command in tree.commands(tree.root()).items():
        if hasattr(command, "commands"):
            continue
        parts += [f"## {path.removeprefix('orchestrator ')}", _plain(command.help or "")]
        parts.append(f"    {path} {_usage(command)}")
        rows = [_row(parameter) for parameter in command.params if not parameter.hidden]
        if rows:
            parts.append("\n".join(["| | |", "|---|---|", *rows]))
        if command.epilog:
            parts.append(_example(command.epilog))
    return "\n\n".join(parts) + "\n"


def _usage(command: Any) -> str:
    words = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    return " ".join([*words, "[OPTIONS]"])


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).rstrip("…")
    several = "…" if parameter.nargs == -1 else ""
    return f"{name}{several}" if parameter.required else f"[{name}{several}]"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        shown = _argument(parameter)
    else:
        shown = ", ".join([*parameter.opts, *parameter.secondary_opts])
        shown += f" {parameter.metavar}" if parameter.metavar else ""
    default = parameter.default
    told = "" if default in (None, False, True, ()) or callable(default) else f" Default: {default}."
    return f"| `{_cell(shown)}` | {_cell(_plain(parameter.help or ''))}{_cell(told)} |"


def _example(epilog: str) -> str:
    lead, colon, example = epilog.partition(":  ")
    return f"{lead}:\n\n    {example}" if colon else f"    {epilog}"


def study_page() -> str:
    """Every key of a study file."""
    from orchestrator.study.schema import study_schema

    schema = study_schema()
    definitions = schema["$defs"]
    parts = [
        "# Study files",
        "A study is a YAML file. Keys that a file leaves out take their defaults; unknown keys are errors.\n"
        "Every key can be given on the command line too, as in\n"
        "`orchestrator sweep birds.yaml search.trials=40 seeds=1,2,3`.\n"
        "`orchestrator schema` prints the same as a JSON schema, for completion in editors.",
        _table(schema["properties"]),
    ]
    for name, one in schema["properties"].items():
        parts += _sections(name, one, definitions, set())
    parts += [
        "## space",
        "Search spaces by name; a custom one is described in [custom_space.md](custom_space.md).",
    ]
    for one in definitions["SpaceItem"]["anyOf"]:
        if name := one.get("properties", {}).get("name", {}).get("const"):
            parts += [f"### {name}", _summary(one), _keys(one, skip=("name",))]
    parts += ["## settings", "Of the method, by its name."]
    for kind, definition in definitions.items():
        if kind.endswith("Settings") and definition.get("properties"):
            parts += [f"### {_snake(kind.removesuffix('Settings'))}", _keys(definition)]
    return "\n\n".join(parts) + "\n"


def _sections(
    key: str, one: Mapping[str, Any], definitions: Mapping[str, Any], seen: set[str]
) -> Iterator[str]:
    for kind in _kinds(one):
        definition = definitions[kind]
        if kind in seen or "properties" not in definition:
            continue
        yield f"## {key}"
        if text := _summary(definition):
            yield text
        yield _keys(definition)
        for name, inner in definition["properties"].items():
            yield from _sections(f"{key}.{name}", inner, definitions, seen | {kind})


def _kinds(one: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in one:
        yield one["$ref"].rpartition("/")[2]
    for part in (*one.get("anyOf", ()), one.get("items", {}), one.get("additionalProperties") or {}):
        if isinstance(part, Mapping) and part:
            yield from _kinds(part)


def _keys(definition: Mapping[str, Any], skip: Sequence[str] = ()) -> str:
    told = _attributes(definition.get("description", ""))
    return _table(
        {
            name: {"description": told.get(name, ""), **one}
            for name, one in definition["properties"].items()
            if name not in skip
        }
    )


def _table(keys: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| key | values | default | |", "|---|---|---|---|"]
    for name, one in keys.items():
        default = one.get("default")
        shown = "" if "default" not in one or isinstance(default, dict) else f"`{json.dumps(default)}`"
        text = _plain(one.get("description", ""))
        lines.append(f"| `{name}` | {_cell(_values(one))} | {_cell(shown)} | {_cell(text)} |")
    return "\n".join(lines)


def _values(one: Mapping[str, Any]) -> str:
    if "$ref" in one:
        return "below"
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if "const" in one:
        return f"`{one['const']}`"
    if "anyOf" in one:
        return " or ".join(dict.fromkeys(filter(None, map(_values, one["anyOf"]))))
    kind = one.get("type")
    if kind == "array":
        return f"list of {_values(one.get('items', {})) or 'values'}"
    if kind == "string" and one.get("pattern") == ":":
        return "`file.py:Name`"
    if kind == "string" and "numbers" in one.get("title", ""):
        return "`1,2,3`"
    return str({"object": "mapping", "null": "null", None: ""}.get(kind, kind))


def _summary(definition: Mapping[str, Any]) -> str:
    return _plain(definition.get("description", "").partition("Attributes:")[0])


def _attributes(docstring: str) -> dict[str, str]:
    """What a docstring says of each attribute."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        start = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
        if start:
            names = start[1].split(", ")
            found |= dict.fromkeys(names, start[2])
        else:
            for name in names:
                found[name] += f" {line.strip()}"
    return {
        name: text[:1].upper() + text[1:] if re.match(r"[a-z]+\b", text) else text
        for name, text in found.items()
    }


def _plain(text: str) -> str:
    """Text of help and docstrings as Markdown."""
    text = re.sub(r"\[/?\w*\]", "", text).replace("``", "`")
    text = re.sub(r"\bNone\b", "null", text)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n\n", " ")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


if __name__ == "__main__":
    sys.exit(main())
