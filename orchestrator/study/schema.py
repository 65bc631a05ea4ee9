"""The JSON schema of study files: completion and checks in editors."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import TypeAdapter

from mmap_model.methods import get_method, method_names
from orchestrator.study.fields import PUBLISHED
from orchestrator.study.model import Study
from orchestrator.study.sampler import SAMPLERS
from orchestrator.study.scheduler import SCHEDULERS, SHARES
from search_spaces import get_space, space_names


def study_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a study file; unknown keys are forbidden in it as they are when read."""
    schema = Study.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    custom = {"type": "string", "pattern": ":"}
    schema["properties"]["method"]["anyOf"] = [{"enum": list(method_names())}, custom]
    schema["properties"]["settings"] = {
        "title": "Settings",
        "description": "The method's own settings that are not searched.",
        "type": "object",
    }
    recipe = schema["properties"]["recipe"]
    published = {"const": PUBLISHED}
    keys = {"base": published, **definitions["Recipe"]["properties"]}
    based = {"type": "object", "required": ["base"], "additionalProperties": False, "properties": keys}
    told = {key: recipe.pop(key) for key in ("description", "default") if key in recipe}
    schema["properties"]["recipe"] = {**told, "anyOf": [published, recipe, based]}
    settings = [_of(get_method(name).Settings, definitions) for name in method_names()]
    schema["if"] = {"properties": {"method": custom}, "required": ["method"]}
    schema["else"] = {"properties": {"settings": {"anyOf": settings}}}
    seed = {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/Seeds"}]}
    schema["properties"]["seeds"].update(items=seed, default=[1, 2, 3])
    shots = {"anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/Split"}]}
    schema["properties"]["splits"].update(items=shots)
    for key in ("seeds", "splits"):
        schema["properties"][key] = _or_numbers(schema["properties"][key])
    definitions["SpaceItem"] = {
        "description": "One search space: its name, or the Python path of a custom one, and its options.",
        "anyOf": [
            {"type": "string"},
            *(_space(name, definitions) for name in space_names()),
            {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "pattern": ":"}},
            },
        ],
    }
    definitions["Scheduler"] = {
        "description": "What stops weak trials early: its name, or the Python path of a custom one, options.",
        "anyOf": [
            {"anyOf": [{"enum": list(SCHEDULERS)}, custom]},
            *(_scheduler(name, options) for name, options in SCHEDULERS.items()),
            {"type": "object", "required": ["name"], "properties": {"name": custom}},
        ],
    }
    definitions["Search"]["properties"]["sampler"].pop("type")
    definitions["Search"]["properties"]["sampler"]["anyOf"] = [{"enum": list(SAMPLERS)}, custom]
    for definition in definitions.values():
        if "properties" in definition and definition.get("title") not in ("SpaceItem", "Scheduler"):
            definition.setdefault("additionalProperties", False)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _or_numbers(listed: dict[str, Any]) -> dict[str, Any]:
    """A list, or its numbers in a row."""
    told: dict[str, Any] = {
        key: listed.pop(key) for key in ("description", "default", "title") if key in listed
    }
    row = {
        "title": "numbers in a row",
        "type": "string",
        "pattern": r"^\s*\d+(-\d+)?([,\s]+\d+(-\d+)?)*[,\s]*$",
    }
    return {**told, "anyOf": [row, listed, {"type": "integer", "minimum": 0}]}


def _scheduler(name: str, options: tuple[str, ...]) -> dict[str, Any]:
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}
    count = {"type": "integer", "minimum": 1}
    properties = {"name": {"const": name}, **{o: share if o in SHARES else count for o in options}}
    return {
        "type": "object",
        "required": ["name"],
        "properties": properties,
        "additionalProperties": False,
    }


def _of(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    definitions[kind.__name__] = schema
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _space(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    kind = get_space(name)
    assert dataclasses.is_dataclass(kind), "a registered space is a dataclass"
    schema = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    schema["properties"] = {"name": {"const": name}, **schema.get("properties", {})}
    schema["required"] = ["name", *schema.get("required", [])]
    schema["additionalProperties"] = False
    return schema
