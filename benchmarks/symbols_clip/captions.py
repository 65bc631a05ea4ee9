"""Captions for rendered glyphs, as token ids: style words, the class name, filler and nonsense tokens.

A caption is (ids between start and end of text, style). Style None means that the caption says nothing about
style: it then fits every image of its class.
"""

from functools import cache

import numpy as np
from open_clip.tokenizer import SimpleTokenizer

STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "clipart": (
        "a clipart of",
        "a clipart drawing of",
        "clipart of",
        "a cartoon of",
        "a clip art picture of",
    ),
    "painting": (
        "a painting of",
        "an oil painting of",
        "a painted",
        "a watercolor of",
        "an impressionist painting of",
    ),
    "photo": ("a photo of", "a photograph of", "a snapshot of", "a camera picture of", "a close-up photo of"),
    "sketch": ("a sketch of", "a pencil sketch of", "a pencil drawing of", "a hand drawn", "a doodle of"),
    "plain": ("a printed", "black and white type of", "a plain black", "a font glyph of"),
    "icon": ("an icon of", "a flat icon of", "a pictogram of", "an app icon of"),
    "neon": ("a neon sign of", "a glowing", "neon lights of", "a neon"),
    "stamp": ("a rubber stamp of", "an ink print of", "a stamped", "a worn stamp of"),
    "chalk": ("a chalk drawing of", "a blackboard drawing of", "chalk on a board of", "a chalked"),
    "mosaic": ("a mosaic of", "a tiled", "a tile mosaic of", "pixel tiles of"),
    "embroidery": ("an embroidery of", "a stitched", "an embroidered", "needlework of"),
    "blueprint": ("a blueprint of", "a technical drawing of", "a blue plan of", "a construction plan of"),
    "engraving": ("an engraving of", "a carved", "an engraved", "a stone relief of"),
    "poster": ("a poster of", "a halftone print of", "a printed poster of", "a comic print of"),
}
STYLE_FREE = ("a", "", "an image of", "a picture of", "this is", "one", "a rendition of", "a depiction of")
PHOTO_TEMPLATE = "a photo of"
FILLERS = (
    "nice", "good", "the best", "my", "big", "small", "bad", "cool", "weird", "old", "new",
    "free download", "for sale", "on the web", "stock", "royalty free", "high resolution", "number",
    "in the middle", "and more", "from our shop", "hello", "today", "very", "beautiful", "isolated",
    "on a background", "by an unknown artist", "design", "vector", "quality", "blog", "page", "com",
    "jpg", "version", "world", "here", "look", "see", "at home", "with love", "for kids", "lesson",
    "color", "light", "dark", "red", "blue", "green", "yellow", "x x x x", ", ,", "!", "...", "it is",
    "what is", "there is", "how to", "set of",
)  # fmt: skip
NONSENSE_TOKENS = 600


@cache
def _encode(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(text))


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


@cache
def nonsense_ids() -> tuple[int, ...]:
    """Word pieces with no meaning here, drawn once from the whole vocabulary."""
    rng = np.random.default_rng(7)
    return tuple(int(token) for token in rng.choice(np.arange(300, 49000), NONSENSE_TOKENS, replace=False))


def vocabulary(names: tuple[str, ...]) -> list[int]:
    """Every token id that a caption can contain, sorted, with start and end of text."""
    phrases = [
        *FILLERS,
        *STYLE_FREE,
        PHOTO_TEMPLATE,
        *(p for words in STYLE_WORDS.values() for p in words),
        *names,
        "a an .",
    ]
    ids = {token for phrase in phrases for token in _encode(phrase)} | set(nonsense_ids())
    return sorted(ids | {_tokenizer().sot_token_id, _tokenizer().eot_token_id})


def caption(
    rng: np.random.Generator,
    name: str,
    style: str,
    style_free: float,
    photo_free: float,
    filler: float,
    room: int,
) -> tuple[list[int], str | None]:
    """A caption of at most `room` ids where name and style words allow.

    `style_free` is the share of captions that say nothing about style; of those, the share `photo_free` reads
    "a photo of a {}"; the share `filler` of all may carry filler or nonsense.
    """
    named: str | None = style
    if rng.random() < style_free:
        named = None
        words = PHOTO_TEMPLATE if rng.random() < photo_free else STYLE_FREE[rng.integers(len(STYLE_FREE))]
    else:
        choices = STYLE_WORDS[style]
        words = choices[0] if rng.random() < 0.35 else choices[rng.integers(len(choices))]
    if words.endswith(" of") and rng.random() < 0.85:
        words += " an" if name[0] in "aeiou" else " a"
    parts = [_encode(words), _encode(name)]
    if rng.random() < 0.6:
        parts.append(_encode("."))
    spare = room - sum(map(len, parts))
    if spare > 0 and rng.random() < filler:
        _insert_filler(rng, parts, int(rng.integers(0, spare + 1)))
    return [token for part in parts for token in part], named


def _insert_filler(rng: np.random.Generator, parts: list[tuple[int, ...]], count: int) -> None:
    """Put up to `count` ids of filler or nonsense before, between and after the parts."""
    nonsense = rng.random() < 0.5
    front = rng.random() < 0.5
    while count > 0:
        if nonsense:
            piece = tuple(int(nonsense_ids()[i]) for i in rng.integers(0, NONSENSE_TOKENS, min(count, 4)))
        else:
            piece = _encode(FILLERS[rng.integers(len(FILLERS))])[:count]
        parts.insert(0 if front else int(rng.integers(0, len(parts) + 1)), piece)
        count -= len(piece)
