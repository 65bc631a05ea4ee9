"""Classify images with an exported program. Needs torch, numpy and Pillow.

    classifier = Classifier("torch-export")    # the folder with artefact.json and model.pt2
    for answer in classifier.classify(["a.jpg", "b.jpg"], task="photo", top=3):
        print(answer)                          # {"anchor": 0.93, "bell": 0.04, "key": 0.01}

Images become pixels exactly as in training: upright as their EXIF says, RGB of eight bits, then resized as
``artefact.json`` says. Legend: n images, S side of the square, C classes (the most of any task).
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

READ = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")
"""Pillow's names of the formats that are read. Others may start programs, or hold no photographs."""

MAX_PIXELS = 100_000_000
MAX_SCANS = 64
"""Passes in which one JPEG is drawn; each costs what the whole image costs."""

THIN = 64
"""Long side of an image, as a multiple of the short one, from which it is cropped before it is resized."""

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA


class Classifier:
    """An exported program with what its folder says of tasks, classes and images.

    Attributes:
        tasks: class names by task, in the order of the logits.
        preprocessing: of images, in open_clip's names.
    """

    def __init__(self, folder: str | Path) -> None:
        """See the module.

        Args:
            folder: with ``artefact.json`` and ``model.pt2``.
        """
        description = json.loads((Path(folder) / "artefact.json").read_text(encoding="utf-8"))
        self.tasks: dict[str, list[str]] = {task["name"]: task["classes"] for task in description["tasks"]}
        self.preprocessing: dict[str, Any] = description["preprocessing"]
        program = torch.export.load(Path(folder) / "model.pt2")
        first = program.graph_signature.user_inputs[0]
        dtype = next(node.meta["val"].dtype for node in program.graph.nodes if node.name == first)
        self._mean, self._std = (
            torch.tensor(self.preprocessing[name], dtype=dtype).view(3, 1, 1) * 255
            for name in ("mean", "std")
        )
        self._run = program.module()

    def classify(
        self, images: Sequence[str | Path | bytes | Image.Image], task: str, *, top: int = 5, batch: int = 32
    ) -> Iterator[dict[str, float]]:
        """The ``top`` most probable classes of each image with their probabilities, the best first.

        Raises:
            ValueError: no such task, or an image that cannot be decoded.
        """
        for first in range(0, len(images), batch):
            some = images[first : first + batch]
            tasks = [task] * len(some)
            yield from self.ranked(self.logits(some, tasks, first=first), tasks, top)

    @torch.no_grad()
    def logits(self, images: Sequence[Any], tasks: Sequence[str], first: int = 0) -> torch.Tensor:
        """Logits [n, C] of images, each of its own task; -inf beyond a task's classes.

        Raises:
            ValueError: no such task, or an image that cannot be decoded; places count from ``first``.
        """
        names = list(self.tasks)
        for task in tasks:
            if task not in self.tasks:
                raise ValueError(f"there is no task {task!r}; use one of {', '.join(names)}")
        views = np.stack([self._view(image, place) for place, image in enumerate(images, first)])
        pixels = torch.from_numpy(views).permute(0, 3, 1, 2)
        normalised = torch.sub(pixels, self._mean).div_(self._std)
        found: torch.Tensor = self._run(normalised, torch.tensor([names.index(task) for task in tasks]))
        return found

    def ranked(self, logits: torch.Tensor, tasks: Sequence[str], top: int) -> list[dict[str, float]]:
        """The ``top`` most probable classes of rows of ``logits``, the best first."""
        answers = []
        for row, task in zip(logits, tasks, strict=True):
            classes = self.tasks[task]
            best = row[: len(classes)].double().softmax(-1).topk(min(top, len(classes)))
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            answers.append({classes[index]: value for index, value in pairs})
        return answers

    def _view(self, image: Any, place: int) -> np.ndarray[Any, Any]:
        """uint8 [S, S, 3]."""
        how = self.preprocessing
        try:
            return np.asarray(
                square(
                    upright(image), how["size"], how["resize_mode"], how["interpolation"], how["fill_color"]
                )
            )
        except Exception as error:  # Pillow and its decoders raise of every kind
            reason = str(error).partition(" <_io.BytesIO")[0] or type(error).__name__
            raise ValueError(f"image {place} cannot be decoded: {reason}") from error


def upright(image: str | Path | bytes | Image.Image) -> Image.Image:
    """A file, its bytes or a Pillow image as RGB of eight bits, turned as its EXIF says."""
    if isinstance(image, Image.Image):
        return _rgb(ImageOps.exif_transpose(image))
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    Image.init()
    with Image.open(io.BytesIO(data), formats=[name for name in READ if name in Image.OPEN]) as file:
        if file.width * file.height > MAX_PIXELS:
            raise ValueError(f"it has {file.width} x {file.height} pixels, more than {MAX_PIXELS}")
        if file.format in ("JPEG", "MPO") and _scans(data) > MAX_SCANS:
            raise ValueError(f"it is drawn in more than {MAX_SCANS} passes")
        ImageOps.exif_transpose(file, in_place=True)
        file.load()
        return _rgb(file)


def square(image: Image.Image, side: int, mode: str, interpolation: str, fill: int) -> Image.Image:
    """The square of ``side`` pixels that the model sees of an RGB image."""
    width, height = image.size
    filter_ = FILTERS[interpolation]
    if mode == "squash":
        return image.resize((side, side), filter_)
    if mode == "longest":
        ratio = max(width, height) / side
        image = image.resize((max(1, round(width / ratio)), max(1, round(height / ratio))), filter_)
        canvas = Image.new("RGB", (side, side), (fill,) * 3)
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return canvas
    if max(width, height) > THIN * min(width, height):
        return _thin(image, side, filter_)
    short = min(width, height)
    image = image.resize((side * width // short, side * height // short), filter_)
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def _thin(image: Image.Image, side: int, filter_: Image.Resampling) -> Image.Image:
    """The central square of a very long image without resizing all of it, which may take gigabytes."""
    width, height = image.size
    long, short = max(width, height), min(width, height)
    resized = side * long // short
    ratio = long / resized
    first = round((resized - side) / 2)
    start, end = first * ratio, (first + side) * ratio
    reach = 3 * max(1, math.ceil(ratio))  # beyond that no filter looks
    low, high = max(0, math.floor(start) - reach), min(long, math.ceil(end) + reach)
    if width > height:
        part = image.crop((low, 0, high, height))
        part = part.resize((side, height), filter_, box=(start - low, 0, end - low, height))
        return part.resize((side, side), filter_)
    part = image.crop((0, low, width, high)).resize((side, high - low), filter_)
    return part.resize((side, side), filter_, box=(0, start - low, side, end - low))


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits in three channels. Of deeper grey images Pillow would cut off whatever exceeds 255."""
    if image.mode.startswith("I"):  # 16 bits, also where they are held in 32
        image = _eight_bits(np.asarray(image), lambda values: values / 257)
    elif image.mode == "F":
        values = np.asarray(image)
        factor = 255 if values.max(initial=0) <= 1 else 1
        image = _eight_bits(values, lambda values: values * factor)
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(values: np.ndarray[Any, Any], scaled: Any) -> Image.Image:
    """Grey levels of any depth, ``scaled`` to 0 to 255; some rows at a time, because floats take room."""
    grey = np.empty(values.shape, np.uint8)
    rows = max(1, 2**20 // values.shape[1])
    with np.errstate(invalid="ignore"):  # of what is no number, as some float images have
        for start in range(0, len(values), rows):
            part = slice(start, start + rows)
            grey[part] = scaled(values[part]).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey)


def _scans(data: bytes) -> int:
    """Passes of a JPEG until its end, or one more than ``MAX_SCANS``."""
    place, scans = 2, 0
    while (marker := _MARKER.search(data, place)) is not None and marker[0][1] != _EOI and scans <= MAX_SCANS:
        scans += marker[0][1] == _SOS
        place = marker.end()
        if marker[0][1] not in (0x01, _SOI):
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return scans
