"""Finding, reading and validating a study."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from pydantic import BaseModel, ValidationError

from mmap_model.errors import InputError, nearest
from mmap_model.paths import expanded, is_file
from mmap_model.text_files import read_text
from orchestrator.notation import LONGEST
from orchestrator.study.errors import StudyError
from orchestrator.study.model import Study
from orchestrator.study.source import StudySource, override, parse

LARGEST = 4 * LONGEST
"""Bytes of a study file: no character has more than four."""


def load_study(name_or_path: str, overrides: Iterable[str] = ()) -> Study:
    """The packaged study of that name, or the study in that file, with ``key=value`` overrides.

    Raises:
        InputError: no such study, or anything in it that is not valid; names file, line, key and fix.
    """
    return build_study(override(read_source(name_or_path), overrides))


def read_source(name_or_path: str) -> StudySource:
    """The text of a study, parsed but not yet validated."""
    path = expanded(name_or_path)
    if path.suffix in (".yaml", ".yml") or is_file(path):
        if not is_file(path):
            raise StudyError(
                f"{name_or_path} does not exist", where="STUDY", fix="give the path of a study file"
            )
        return parse(read_text(path, "STUDY", StudyError, most=LARGEST), path.name)
    known = packaged_studies()
    if name_or_path not in known:
        raise StudyError(
            f"no study is named {name_or_path!r}",
            where="STUDY",
            fix=f"{nearest(name_or_path, known)}; or give the path of a .yaml file",
        )
    file = resources.files("orchestrator.studies") / f"{name_or_path}.yaml"
    return parse(file.read_text(encoding="utf-8"), file.name)


def packaged_studies() -> tuple[str, ...]:
    """Names of the studies that ship with this package."""
    names = (file.name for file in resources.files("orchestrator.studies").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def build_study(source: StudySource) -> Study:
    """Validate. Raises InputError for the first thing that is wrong, located in the file."""
    try:
        study = Study.model_validate(source.data)
        _check_fixed_or_searched(study, source)
    except ValidationError as error:
        raise source.located(_input_error(error)) from None
    except InputError as error:
        raise source.located(error) from None
    return study


def study_from_plain(data: Mapping[str, Any], name: str) -> Study:
    """A study from what ``Study.to_plain`` gave; ``name`` is the record it came from.

    A study recorded before the rule of its scheduler had versions goes on by the first.
    """
    data = dict(data)
    search = data.get("search")
    if isinstance(search, Mapping):
        data["search"] = {"scheduler_version": 1, **search}
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise StudySource(name, data).located(_input_error(error)) from None


def _check_fixed_or_searched(study: Study, source: StudySource) -> None:
    for index, space in enumerate(study.spaces()):
        for key in space.writes():
            if source.gives(key):
                raise StudyError(
                    f"it has a fixed value and is also searched by space.{index} ({study.space[index].name})",
                    where=key,
                    fix="remove the fixed value, or limit the space to it",
                )


def _input_error(error: ValidationError) -> InputError:
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    # A union reports the branch that it tried as part of the location.
    location = tuple(p for p in first["loc"] if not _is_branch(p))
    key = ".".join(map(str, location))
    value = first["input"]
    match first["type"]:
        case "extra_forbidden":
            known = list(_model_at(location[:-1]).model_fields)
            return StudyError("unknown key", where=key, fix=nearest(str(location[-1]), known))
        case "missing":
            return StudyError("missing key", where=key, fix=f"add {location[-1]}: …")
        case "string_pattern_mismatch":
            fix = "start with a letter or digit; go on with letters, digits, and _ . - (100 at most)"
            return StudyError(f"{value!r} is not allowed", where=key, fix=fix)
        case _:
            # Every branch of a union says what it takes.
            same = (e["msg"] for e in error.errors() if e["loc"][: len(location)] == location)
            fix = " or ".join(dict.fromkeys(_plain_words(message) for message in same))
            return StudyError(f"{value!r} is not allowed", where=key, fix=fix)


_WORDS = {
    "Input should be a valid dictionary": "write key: value pairs",
    "Input should be a valid tuple": "write a list",
    "Input should be a valid integer": "use a whole number",
    "Input should be a valid number": "use a number",
    "Input should be a valid string": "use a word",
    "Input should be a valid boolean": "use true or false",
    "Input should be a finite number": "use a finite number",
    "Input should be greater than or equal to ": "use at least ",
    "Input should be greater than ": "use more than ",
    "Input should be ": "use ",
}


def _plain_words(message: str) -> str:
    for beginning, words in _WORDS.items():
        if message.startswith(beginning):
            return words + message.removeprefix(beginning).partition(" or instance")[0]
    return message


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and (part in ("int", "float") or part.startswith(("literal[", "function-")))


def _model_at(location: Sequence[int | str]) -> type[BaseModel]:
    model: type[BaseModel] = Study
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _inner_model(model.model_fields[part].annotation) or model
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((m for a in typing.get_args(annotation) if (m := _inner_model(a)) is not None), None)
