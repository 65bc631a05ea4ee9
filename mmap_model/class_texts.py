"""The texts that class names stand in, checked before anything is trained. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmap_model.architecture import Architecture
from mmap_model.byte_pairs import count_tokens, special_in
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
class UnfitText:
    """A class whose text the text tower does not take: its name, and what is wrong."""

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


def unfit(texts: ClassTexts, names: Iterable[str], architecture: Architecture) -> Iterator[UnfitText]:
    """The classes whose text, with start and end, has more tokens than the tower takes, or one of CLIP's."""
    limit = architecture.context_length - texts.prompts
    for name in names:
        text = class_text(texts.template, name)
        if special := special_in(text):
            yield UnfitText(name, f"{text[:SHOWN]!r} holds {special}, which is a token of CLIP's own")
            continue
        if _most_tokens(text) <= limit:
            continue
        count = count_tokens(text)
        if count > limit:
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            beside = f" besides {texts.prompts} of prompts" if texts.prompts else ""
            takes = f"the text tower takes {architecture.context_length}"
            problem = f"{shown!r} has {count} tokens{beside}; {takes}"
            yield UnfitText(name, problem)


def check_class_texts(texts: ClassTexts, names: Sequence[str], architecture: Architecture) -> None:
    """Check the template and the texts of all classes.

    Raises:
        ConfigurationError: another placeholder than ``{}``, or a text that is too long.
    """
    check_template(texts)
    found = list(unfit(texts, dict.fromkeys(names), architecture))
    if found:
        more = f" (and {len(found) - 1} more classes)" if len(found) > 1 else ""
        words = f"dataset.class_names={{{_short(found[0].name)}: …}}"
        shorter = texts.where + (" or settings.prompt_length" if texts.prompts else "")
        raise ConfigurationError(
            f"{found[0].problem}{more}",
            where="dataset.class_names",
            fix=f"give it shorter words, such as {words}, or shorten {shorter}",
        )


def _most_tokens(text: str) -> int:
    """No text has more: every token has a byte or more. Other scripts may grow when they are cleaned.

    Spares reading the encoding's file for short names.
    """
    return len(text.encode(errors="replace")) * (1 if text.isascii() else 2) + 2


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:20]}…"
