"""Trees of small images in the layouts, names and counts of Office-Home and miniDomainNet.

They hold nothing worth learning: they are for dry runs of a study before its data is there, for tests and
for benchmarks. Every class is one coloured pattern in each domain; every file differs from all others in a
comment that decoders skip, so no two have the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from mmap_model.data.sources import coop
from mmap_model.data.sources import office_home as published

OFFICE_HOME_RANGE = {"art": (15, 99), "clipart": (39, 99), "product": (38, 99), "real_world": (23, 99)}
"""Fewest and most images of a class, by domain."""

MINI_DOMAINNET = {"clipart": 18_703, "painting": 31_202, "real": 65_609, "sketch": 24_492}
"""Images by domain. Only their sum, 140,006, is published."""

MINI_DOMAINNET_CLASSES = tuple(
    """aircraft_carrier alarm_clock ant anvil asparagus axe banana basket bathtub bear bee bird
    blackberry blueberry bottlecap broccoli bus butterfly cactus cake calculator camel camera candle
    cannon canoe carrot castle cat ceiling_fan cello cell_phone chair chandelier coffee_cup compass
    computer cow crab crocodile cruise_ship dog dolphin dragon drums duck dumbbell elephant
    eyeglasses feather fence fish flamingo flower foot fork frog giraffe goatee grapes guitar hammer
    helicopter helmet horse kangaroo lantern laptop leaf lion lipstick lobster microphone monkey
    mosquito mouse mug mushroom onion panda peanut pear peas pencil penguin pig pillow pineapple
    potato power_outlet purse rabbit raccoon rhinoceros rifle saxophone screwdriver sea_turtle
    see_saw sheep shoe skateboard snake speedboat spider squirrel strawberry streetlight string_bean
    submarine swan table teapot teddy-bear television The_Eiffel_Tower The_Great_Wall_of_China tiger
    toe train truck umbrella vase watermelon whale zebra""".split()  # noqa: SIM905 (as a literal, a line per class)
)

TRAIN_SHARE = 0.7
"""Of each class of miniDomainNet, about; the published lists divide like this."""

ImagesDrawn = Callable[[int, int], None]
"""Takes images written and images in all."""


def class_counts(total: int, classes: int, low: int, high: int) -> list[int]:
    """As many images per class as add up to ``total``, from ``low`` to ``high``, both of which occur."""
    assert classes * low + high - low <= total <= classes * high - high + low, "no such counts exist"
    mean = (total / classes - low) / (high - low)
    # The power of an even ramp whose mean is 1 / (power + 1) lands near the total; the rest is spread evenly.
    shares = np.linspace(0, 1, classes) ** (1 / mean - 1)
    counts = np.rint(low + (high - low) * shares).astype(int)
    step = 1 if counts.sum() < total else -1
    place = 1
    while counts.sum() != total:
        if low <= counts[place] + step <= high:
            counts[place] += step
        place = place % (classes - 2) + 1
    return [int(count) for count in counts]


def write_office_home(
    root: Path,
    *,
    layout: Literal["archive", "dassl", "dassl_dg"] = "archive",
    tasks: Sequence[str] = tuple(published.PUBLISHED),
    classes: Sequence[str] = published.CLASSES,
    per_class: int | None = None,
    side: int = 32,
    progress: ImagesDrawn = lambda done, total: None,
) -> int:
    """Write Office-Home's tree under ``root``; returns the number of images.

    Args:
        root: made if need be.
        layout: as the archive unpacks, or as one of Dassl's.
        tasks, classes: those to write.
        per_class: images of every class; None: the published counts of each domain.
        side: of the square images, in pixels.
        progress: told now and then.
    """
    todo = []
    for task in tasks:
        domain = published.FOLDERS[task] if layout == "archive" else task
        counts = (
            [per_class] * len(classes)
            if per_class is not None
            else class_counts(published.PUBLISHED[task], len(classes), *OFFICE_HOME_RANGE[task])
        )
        for name, count in zip(classes, counts, strict=True):
            for number in range(count):
                part = "" if layout != "dassl_dg" else "val/" if number % 10 == 9 else "train/"
                todo.append((f"{domain}/{part}{name}", f"{number + 1:05d}.jpg", (task, name)))
    return _write(root, todo, side, progress)


def write_mini_domainnet(
    root: Path,
    *,
    tasks: Sequence[str] = tuple(MINI_DOMAINNET),
    classes: Sequence[str] = MINI_DOMAINNET_CLASSES,
    per_class: int | None = None,
    side: int = 32,
    progress: ImagesDrawn = lambda done, total: None,
) -> int:
    """Write miniDomainNet's tree and lists under ``root``; returns the number of images. See above."""
    todo = []
    lists: dict[str, list[str]] = {}
    for task in tasks:
        counts = (
            [per_class] * len(classes)
            if per_class is not None
            else class_counts(
                MINI_DOMAINNET[task], len(classes), 12, 2 * MINI_DOMAINNET[task] // len(classes)
            )
        )
        train, test = (lists.setdefault(f"{task}_{part}.txt", []) for part in ("train", "test"))
        for label, (name, count) in enumerate(zip(classes, counts, strict=True)):
            for number in range(count):
                file = f"{task}_{label + 1:03d}_{number + 1:06d}.jpg"
                todo.append((f"{task}/{name}", file, (task, name)))
                listed = train if number < round(TRAIN_SHARE * count) else test
                listed.append(f"{task}/{name}/{file} {label}\n")
    written = _write(root, todo, side, progress)
    folder = root / "splits_mini"
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (folder / name).write_text("".join(lines), encoding="utf-8")
    return written


def write_coop(
    root: Path,
    *,
    tasks: Sequence[str] = tuple(coop.DATASETS),
    classes: int | None = None,
    per_class: int = 2,
    side: int = 32,
    progress: ImagesDrawn = lambda done, total: None,
) -> int:
    """Write datasets of CoOp with their lists under ``root``; returns the number of images.

    Args:
        tasks: names of datasets.
        classes: of each, or None for as many as are published.
        per_class: images; the last is on the test list, the one before, from four on, on the validation list.
        side, progress: see above.
    """
    todo = []
    for task in tasks:
        one = coop.DATASETS[task]
        lines: dict[str, list[tuple[str, int, str]]] = {part: [] for part in coop.PARTS}
        for label in range(one.classes if classes is None else classes):
            name = f"kind_{label + 1:03d}"
            for number in range(per_class):
                left = per_class - number
                part = "test" if left == 1 else "val" if left == 2 and per_class >= 4 else "train"
                image = f"{label:03d}{number:04d}.jpg" if not one.split else f"{name}/{number + 1:04d}.jpg"
                lines[part].append((image, label, name))
                folder, _, file = f"{one.folder}/{one.images}/{image}".replace("//", "/").rpartition("/")
                todo.append((folder, file, (task, name)))
        (root / one.folder).mkdir(parents=True, exist_ok=True)
        if one.split:
            (root / one.folder / one.split).write_text(json.dumps(lines), encoding="utf-8")
            continue
        names = dict.fromkeys(name for part in lines.values() for _, _, name in part)
        (root / one.folder / "variants.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        for part, entries in lines.items():
            text = "".join(f"{image.removesuffix('.jpg')} {name}\n" for image, _, name in entries)
            (root / one.folder / coop.VARIANTS[part]).write_text(text, encoding="utf-8")
    return _write(root, todo, side, progress)


def jpeg(key: tuple[str, str], side: int, comment: str) -> bytes:
    """A pattern of its domain and class, with a comment that no decoder shows."""
    return _with_comment(_pattern(key, side), comment)


def _write(
    root: Path, todo: Sequence[tuple[str, str, tuple[str, str]]], side: int, progress: ImagesDrawn
) -> int:
    patterns = {key: _pattern(key, side) for key in dict.fromkeys(key for _, _, key in todo)}
    for folder in dict.fromkeys(folder for folder, _, _ in todo):
        (root / folder).mkdir(parents=True, exist_ok=True)

    def write(item: tuple[str, str, tuple[str, str]]) -> None:
        folder, name, key = item
        (root / folder / name).write_bytes(_with_comment(patterns[key], f"{folder}/{name}"))

    with ThreadPoolExecutor(max_workers=8) as pool:
        for number, _ in enumerate(pool.map(write, todo, chunksize=256), 1):
            if number % 1000 == 0 or number == len(todo):
                progress(number, len(todo))
    return len(todo)


def _pattern(key: tuple[str, str], side: int) -> bytes:
    task, name = key
    seeds = [hashlib.sha256(json.dumps(part).encode()).digest() for part in (task, name)]
    coarse = sum(np.random.default_rng(list(seed)).integers(0, 120, (4, 4, 3)) for seed in seeds)
    image = Image.fromarray(np.asarray(coarse, np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _with_comment(encoded: bytes, comment: str) -> bytes:
    """A JPEG with a comment segment right after its first marker."""
    text = comment.encode()
    segment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return encoded[:2] + segment + encoded[2:]
