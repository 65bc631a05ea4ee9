"""How many tokens CLIP's byte-pair encoding makes of a text, counted without torch.

open_clip's tokenizer encodes; importing it takes seconds and brings torch, which planning does without. The
merges are those of its file, and the tests hold the counts against it.
"""

from __future__ import annotations

import functools
import gzip
import html
import importlib.util
from itertools import pairwise
from pathlib import Path

import ftfy
import regex

MERGES = 49152 - 256 - 2
"""Of the file, after its first line."""

SPECIAL = ("<start_of_text>", "<end_of_text>")
"""Texts that are one token each: the end of text in a class name would end it there."""

_WORDS = regex.compile(
    "|".join(SPECIAL) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def count_tokens(text: str) -> int:
    """Tokens of a text with its start and end."""
    return 2 + sum(map(_count, _WORDS.findall(_clean(text))))


def token_ids(text: str) -> list[int]:
    """Ids of a text's tokens, without its start and end, as open_clip's tokenizer has them."""
    ids = _ids()
    return [ids[part] for word in _WORDS.findall(_clean(text)) for part in _parts(word)]


def special_in(text: str) -> str | None:
    """The first token of CLIP's own that stands in a text as a word, written out or by HTML's entities."""
    if not {"<", "&"} & {*text}:
        return None
    cleaned = _clean(text)
    return next((word for word in SPECIAL if word in cleaned), None)


def _clean(text: str) -> str:
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


def _count(word: str) -> int:
    return len(_parts(word))


@functools.lru_cache(maxsize=100_000)
def _parts(word: str) -> tuple[str, ...]:
    """Tokens of one word: its bytes, merged in the order of the file's pairs."""
    if word in SPECIAL:
        return (word,)
    ranks, characters = _merges()
    parts = [characters[byte] for byte in word.encode()]
    parts[-1] += "</w>"
    while len(parts) > 1:
        best = min(pairwise(parts), key=lambda pair: ranks.get(pair, MERGES))
        if best not in ranks:
            break
        merged: list[str] = []
        for part in parts:
            if merged and (merged[-1], part) == best:
                merged[-1] += part
            else:
                merged.append(part)
        parts = merged
    return tuple(parts)


@functools.cache
def _ids() -> dict[str, int]:
    """Single bytes come first, then those that end a word, then what the pairs make, then the specials."""
    ranks, _ = _merges()
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    bytes_ = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    tokens = [*bytes_, *(token + "</w>" for token in bytes_), *(a + b for a, b in ranks), *SPECIAL]
    return {token: number for number, token in enumerate(tokens)}


@functools.cache
def _merges() -> tuple[dict[tuple[str, str], int], tuple[str, ...]]:
    """Rank of each pair, and the character that stands for each byte in the file."""
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.submodule_search_locations, "open_clip_torch is a dependency"
    path = Path(spec.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : MERGES + 1]
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    characters = {byte: chr(byte) for byte in printable} | {b: chr(256 + n) for n, b in enumerate(others)}
    ranks = {}
    for rank, line in enumerate(lines):
        first, second = line.split()
        ranks[first, second] = rank
    return ranks, tuple(characters[byte] for byte in range(256))
