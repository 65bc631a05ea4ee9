"""One encoded image: whether it can be decoded, and what has to be done to make it upright 8-bit RGB."""

from __future__ import annotations

import io
import warnings

from PIL import ExifTags, Image, ImageOps

from mmap_model.data.decoding import reason
from mmap_model.data.formats import DAMAGE, HEAD, TooManyPixels, check_scans, open_encoded


def inspect(encoded: bytes) -> list[tuple[str, str]]:
    """Kinds of fault (see `mmap_model.data.faults`), each with what is wrong; the whole image is decoded."""
    if not encoded:
        return [("zero_bytes", "has no content")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about metadata
        try:
            file = open_encoded(io.BytesIO(encoded))
        except TooManyPixels as error:
            return [("too_large", str(error))]
        except DAMAGE as error:
            return [("unreadable", f"cannot be read as an image: {reason(error, encoded[:HEAD])}")]
        with file:
            try:
                check_scans(io.BytesIO(encoded), file)
                file.load()
                orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
                Image.new(file.mode, (1, 1)).convert("RGB")  # which not all modes can
                if orientation in range(2, 9):
                    ImageOps.exif_transpose(file)  # also writes the EXIF anew
            except TooManyPixels as error:
                return [("too_large", str(error))]
            except DAMAGE as error:
                return [("truncated", f"breaks off or is damaged: {reason(error)}")]
            found = _mode(file)
            if orientation in range(2, 9):
                found.append(("rotated", f"has EXIF orientation {orientation}"))
            if (frames := _frames(file)) > 1:
                found.append(("animated", f"has {frames} frames"))
            return found


def _mode(image: Image.Image) -> list[tuple[str, str]]:
    if image.mode == "P":
        return [("palette", f"has a palette of {len(image.getpalette() or ()) // 3} colours")]
    if image.mode == "CMYK":
        return [("cmyk", "is in CMYK")]
    if image.mode.startswith(("I", "F")):
        return [("deep", f"has mode {image.mode}")]
    found = []
    if image.mode in ("L", "LA", "1"):
        found.append(("grey", f"has mode {image.mode}"))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") and image.getextrema()[-1] != (255, 255):
        found.append(("alpha", f"has mode {image.mode} and is not opaque"))
    return found


def _frames(image: Image.Image) -> int:
    """How many there are; 1 where only the first is whole, which is the one that is used."""
    try:
        return int(getattr(image, "n_frames", 1))
    except DAMAGE:
        return 1
