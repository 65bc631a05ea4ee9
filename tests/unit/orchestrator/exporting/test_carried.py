"""The code that goes into artefacts sees of every image what training saw, without this software."""

from __future__ import annotations

import ast
import io
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mmap_model.errors import DatasetError
from mmap_model.inference.images import pixels_of
from mmap_model.preprocessing import MODES, Resize
from orchestrator.exporting.carried.classify import square, upright
from orchestrator.exporting.wrapping import CARRIED

ALLOWED = {
    "classify.py": {"torch", "numpy", "PIL"},
    "served_by_mlflow.py": {"mlflow", "pandas"},
}
STANDARD = {"__future__", "collections", "importlib", "io", "json", "math", "pathlib", "re", "typing"}


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_it_imports_nothing_else(name: str) -> None:
    tree = ast.parse((CARRIED / name).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add((node.module or "").partition(".")[0])
    assert found - STANDARD == ALLOWED[name]


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> npt.NDArray[np.generic]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)  # type: ignore[arg-type]
    return sink.getvalue()


def images() -> dict[str, bytes]:
    colour = Image.fromarray(noise(61, 97, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = colour.convert("P", palette=Image.Palette.ADAPTIVE)
    return {
        "jpeg": encoded(colour, "JPEG"),
        "progressive": encoded(colour, "JPEG", progressive=True),
        "turned": encoded(colour, "JPEG", exif=exif),
        "cmyk": encoded(colour.convert("CMYK"), "JPEG"),
        "grey": encoded(colour.convert("L"), "PNG"),
        "grey with alpha": encoded(colour.convert("LA"), "PNG"),
        "alpha": encoded(colour.convert("RGBA"), "PNG"),
        "bits": encoded(colour.convert("1"), "PNG"),
        "16 bits": encoded(Image.fromarray(noise(40, 50, dtype=np.uint16)), "PNG"),
        "32 bits": encoded(Image.fromarray(noise(40, 50, dtype=np.uint16).astype(np.int32)), "TIFF"),
        "floats": encoded(Image.fromarray(noise(40, 50).astype(np.float32) / 255), "TIFF"),
        "large floats": encoded(Image.fromarray(noise(40, 50).astype(np.float32)), "TIFF"),
        "palette": encoded(palette, "PNG"),
        "transparent palette": encoded(palette, "PNG", transparency=3),
        "animated": encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(90)]),
        "webp": encoded(colour, "WEBP", lossless=True),
        "bmp": encoded(colour, "BMP"),
        "ppm": encoded(colour, "PPM"),
        "one pixel": encoded(Image.fromarray(noise(1, 1, 3)), "PNG"),
        "wide": encoded(Image.fromarray(noise(3, 900, 3)), "PNG"),
        "tall": encoded(Image.fromarray(noise(900, 3, 3)), "PNG"),
        "large": encoded(Image.fromarray(noise(700, 501, 3)), "PNG"),
    }


RESIZES = [
    Resize(mode, interpolation, 127)
    for mode, interpolation in itertools.product(MODES, ("bicubic", "bilinear"))
]


@pytest.mark.parametrize("name", sorted(images()))
def test_every_image_becomes_the_pixels_of_training(name: str, tmp_path: Path) -> None:
    data = images()[name]
    file = tmp_path / "image"
    file.write_bytes(data)
    for resize, side in itertools.product(RESIZES, (32, 33)):
        wanted = pixels_of(data, side, resize).permute(1, 2, 0).numpy()
        for given in (data, file, Image.open(io.BytesIO(data))):
            how = resize.mode, resize.interpolation, resize.fill
            found = np.asarray(square(upright(given), side, *how))
            assert np.array_equal(found, wanted), (resize, side, type(given))


def broken() -> dict[str, bytes]:
    jpeg = encoded(Image.fromarray(noise(61, 97, 3)), "JPEG")
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return {
        "empty": b"",
        "text": b"not an image",
        "truncated": jpeg[: len(jpeg) // 2],
        "icon": encoded(Image.fromarray(noise(32, 32, 3)), "ICO"),
        "huge": encoded(Image.new("1", (10_001, 10_000)), "PNG"),
        "endless passes": jpeg[:-2] + scan * 70 + jpeg[-2:],
    }


@pytest.mark.parametrize("name", sorted(broken()))
def test_what_this_software_refuses_it_refuses(name: str) -> None:
    data = broken()[name]
    with pytest.raises(DatasetError):
        pixels_of(data, 32, Resize())
    with pytest.raises((ValueError, OSError, SyntaxError)):
        upright(data)
