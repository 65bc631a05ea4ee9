"""The texts that class names stand in, checked before anything is trained. No torch for ordinary names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmap_model.architecture import Architecture
from mmap_model.errors import ConfigurationError

SHOWN = 80
"""Characters of a long text in messages."""


@dataclass(frozen=True)
class ClassTexts:
    """What a method makes of class names.

    Attributes:
        template: ``{}`` stands for the class name.
        where: the key that gives the template, for messages.
        prompts: tokens of prompts that are numbered with the text, and so take some of its places.
    """

    template: str
    where: str = "recipe.template"
    prompts: int = 0


@dataclass(frozen=True)
class LongText:
    """A class whose text does not fit: its name, and what is wrong with it."""

    name: str
    problem: str


def class_text(template: str, name: str) -> str:
    """The text of a class; what is no character in a name (it is refused elsewhere) is a question mark."""
    return template.replace("{}", name.replace("_", " ")).encode(errors="replace").decode()


def check_template(texts: ClassTexts) -> None:
    """Raise ConfigurationError unless ``{}`` is the only placeholder of the template."""
    found = [m for piece in texts.template.split("{}") for m in re.findall(r"\{[^{}]*\}|[{}]", piece)]
    if found:
        raise ConfigurationError(
            f"{texts.template!r} holds {found[0]!r}, which nothing fills in",
            where=texts.where,
            fix="write {} where the class name goes, and no other braces",
        )


def too_long(texts: ClassTexts, names: Iterable[str], architecture: Architecture) -> Iterator[LongText]:
    """The classes whose text, with start and end, has more tokens than the text tower takes."""
    limit = architecture.context_length - texts.prompts
    for name in names:
        text = class_text(texts.template, name)
        if _most_tokens(text) <= limit:
            continue
        count = tokens(text)
        if count > limit:
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            beside = f" besides {texts.prompts} of prompts" if texts.prompts else ""
            takes = f"the text tower takes {architecture.context_length}"
            problem = f"{shown!r} has {count} tokens{beside}; {takes}"
            yield LongText(name, problem)


def check_class_texts(texts: ClassTexts, names: Sequence[str], architecture: Architecture) -> None:
    """Check the template and the texts of all classes.

    Raises:
        ConfigurationError: another placeholder than ``{}``, or a text that is too long.
    """
    check_template(texts)
    found = list(too_long(texts, dict.fromkeys(names), architecture))
    if found:
        more = f" (and {len(found) - 1} more classes)" if len(found) > 1 else ""
        words = f"dataset.class_names={{{_short(found[0].name)}: …}}"
        shorter = texts.where + (" or settings.prompt_length" if texts.prompts else "")
        raise ConfigurationError(
            f"{found[0].problem}{more}",
            where="dataset.class_names",
            fix=f"give it shorter words, such as {words}, or shorten {shorter}",
        )


def tokens(text: str) -> int:
    """Tokens of a text with its start and end. Imports open_clip."""
    return len(tokenizer().encode(text)) + 2


@functools.cache
def tokenizer() -> Any:
    """CLIP's byte-pair encoding; models with any other tokenizer are refused (``architecture.py``)."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()


def _most_tokens(text: str) -> int:
    """No text has more: every token has a byte or more. Other scripts may grow when they are cleaned."""
    return len(text.encode()) * (1 if text.isascii() else 2) + 2


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:20]}…"
