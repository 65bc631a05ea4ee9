"""Choose the glyph classes: candidates by Unicode name, cleaned, minus those that look like an earlier one.

    python benchmarks/symbols_clip/make_glyphs.py mmap_model/symbols/glyphs.csv

Benchmark classes come first, so what resembles one of them is dropped. Two glyphs look alike when their
size-normalised masks, slightly blurred, correlate by more than MAX_CORRELATION.
"""

import csv
import sys
import unicodedata
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageFilter

from mmap_model.symbols.glyphs import font_path, glyph_image

MAX_CORRELATION = 0.7

BENCHMARK = {
    "sun": 0x2600, "cloud": 0x2601, "umbrella": 0x2602, "snowman": 0x2603, "looped square": 0x2318,
    "star": 0x2605, "telephone": 0x260E, "hot beverage": 0x2615, "shamrock": 0x2618,
    "pointing hand": 0x261B, "skull": 0x2620, "radioactive sign": 0x2622, "biohazard sign": 0x2623,
    "caduceus": 0x2624, "ankh": 0x2625, "chi rho": 0x2627, "star and crescent": 0x262A,
    "peace symbol": 0x262E, "yin yang": 0x262F, "wheel": 0x2638, "smiling face": 0x263A, "moon": 0x263D,
    "chess king": 0x265A, "chess queen": 0x265B, "chess rook": 0x265C, "chess bishop": 0x265D,
    "chess knight": 0x265E, "chess pawn": 0x265F, "spade": 0x2660, "heart": 0x2665, "diamond": 0x2666,
    "club": 0x2663, "hot springs": 0x2668, "eighth note": 0x266A, "beamed notes": 0x266B,
    "recycling symbol": 0x267B, "wheelchair": 0x267F, "die": 0x2684, "flag": 0x2691,
    "hammer and pick": 0x2692, "anchor": 0x2693, "crossed swords": 0x2694, "scales": 0x2696,
    "alembic": 0x2697, "flower": 0x2698, "gear": 0x2699, "atom": 0x269B, "fleur-de-lis": 0x269C,
    "warning sign": 0x26A0, "lightning bolt": 0x26A1, "coffin": 0x26B0, "urn": 0x26B1, "scissors": 0x2702,
    "airplane": 0x2708, "envelope": 0x2709, "victory hand": 0x270C, "writing hand": 0x270D,
    "pencil": 0x270F, "nib": 0x2712, "check mark": 0x2714, "maltese cross": 0x2720,
    "star of david": 0x2721, "snowflake": 0x2744, "keyboard": 0x2328, "house": 0x2302,
}  # fmt: skip

RANGES = [
    (0x2600, 0x26E2), (0x2701, 0x2775), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2300, 0x23FF),
    (0x25A0, 0x25FF), (0x27C0, 0x27FF), (0x2100, 0x214F), (0x20A0, 0x20BF), (0x0021, 0x007E),
    (0x00A1, 0x00BF), (0x0391, 0x03C9), (0x0410, 0x044F), (0x0531, 0x0586), (0x10A0, 0x10F0),
    (0x05D0, 0x05EA), (0x0621, 0x064A), (0x0E81, 0x0EB0), (0x2D30, 0x2D65), (0x07CA, 0x07E7),
    (0x27A0, 0x27BE), (0x1F600, 0x1F640), (0x2010, 0x2060),
]  # fmt: skip

# Outline twins of benchmark classes, rotations of them, and marks too thin to carry a style.
EXCLUDED = {
    *range(0x2654, 0x265A),
    0x2606,
    0x260F,
    0x2661,
    0x2662,
    0x2664,
    0x2667,
    0x2690,
    0x261A,
    0x261C,
    0x261E,
    0x2614,
    0x263C,
    0x263E,
    0x2680,
    0x2681,
    0x2682,
    0x2683,
    0x2685,
    0x2745,
    0x2746,
    0x2701,
    0x2703,
    0x2704,
    0x270E,
    0x2710,
    0x2711,
    0x2713,
    0x263B,
    0x2672,
    0x267A,
    0x267C,
    0x267D,
    0x2764,
    0x2665,
    0x25C6,
    0x2609,
    *range(0x2673, 0x267A),
    *range(0x2729, 0x2731),
    *range(0x268A, 0x2690),
    0x2010,
    0x2011,
    0x2012,
    0x002D,
    0x005F,
    0x00AD,
    0x00B7,
    0x2022,
    0x2758,
    0x2759,
    0x275A,
    *range(0x239B, 0x23B4),
    0x2708,
    0x2605,
}

DROPPED_WORDS = {"sign", "symbol", "letter", "small", "black", "suit", "face-1", "with", "for", "the"}
SCRIPT_PREFIX = {
    "LATIN CAPITAL LETTER": "capital letter", "LATIN SMALL LETTER": "small letter",
    "GREEK CAPITAL LETTER": "greek capital", "GREEK SMALL LETTER": "greek",
    "CYRILLIC CAPITAL LETTER": "cyrillic capital", "CYRILLIC SMALL LETTER": "cyrillic",
    "ARMENIAN CAPITAL LETTER": "armenian capital", "ARMENIAN SMALL LETTER": "armenian",
    "GEORGIAN CAPITAL LETTER": "georgian capital", "GEORGIAN LETTER": "georgian",
    "HEBREW LETTER": "hebrew", "ARABIC LETTER": "arabic", "LAO LETTER": "lao",
    "TIFINAGH LETTER": "tifinagh", "NKO LETTER": "nko", "DIGIT": "digit",
}  # fmt: skip


def readable(name: str) -> str:
    """ "BLACK CHESS KNIGHT" → "chess knight"; script letters keep script and case."""
    for prefix, word in SCRIPT_PREFIX.items():
        if name.startswith(prefix + " "):
            return f"{word} {name.removeprefix(prefix + ' ').lower()}"
    words = [word for word in name.lower().split() if word not in DROPPED_WORDS]
    return " ".join(words) or name.lower()


def feature(codepoint: int, mirrored: bool = False) -> np.ndarray:
    """Unit vector of the blurred, centred mask [32·32]."""
    image = glyph_image(codepoint).filter(ImageFilter.GaussianBlur(2)).resize((32, 32), Image.Resampling.BOX)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    vector = np.asarray(image, dtype=np.float64).ravel()
    vector -= vector.mean()
    return vector / np.linalg.norm(vector)


def main(target: Path) -> None:
    cmap = TTFont(str(font_path())).getBestCmap()
    rows = [(name, code, 1) for name, code in BENCHMARK.items()]
    features = [feature(code) for _, code, _ in rows]
    mirrored = [feature(code, mirrored=True) for _, code, _ in rows]
    names = {name for name, _, _ in rows}
    seen = {code for _, code, _ in rows}
    gram = np.stack(features) @ np.stack(features + mirrored).T - np.eye(65, 130) * 2
    gram[np.arange(65), 65 + np.arange(65)] = -1
    worst = np.unravel_index(gram.argmax(), gram.shape)
    print(f"closest benchmark pair: {rows[worst[0]][0]} / {rows[worst[1] % 65][0]} {gram.max():.3f}")
    for first, last in RANGES:
        for code in range(first, last + 1):
            if code not in cmap or code in seen or code in EXCLUDED:
                continue
            category = unicodedata.category(chr(code))
            name = readable(unicodedata.name(chr(code), ""))
            if category[0] in "CZM" or category == "Lm" or not name or name in names or len(name.split()) > 3:
                continue
            box = glyph_image(code).getbbox()
            if box is None or min(box[2] - box[0], box[3] - box[1]) < 22:
                continue
            vector = feature(code)
            if (np.stack(features) @ vector).max() > MAX_CORRELATION or (
                np.stack(mirrored) @ vector
            ).max() > 0.8:
                continue
            rows.append((name, code, 0))
            names.add(name)
            seen.add(code)
            features.append(vector)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "codepoint", "benchmark"])
        writer.writerows([name, f"{code:04X}", flag] for name, code, flag in rows)
    print(f"{len(rows)} classes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
