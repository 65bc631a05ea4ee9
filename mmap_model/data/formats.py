"""Which image formats are read, and what other files are: told by content, whatever a file is called.

Pillow knows some forty formats. Of those that are not read here, one starts another program (PostScript), and
none is a format in which datasets of photographs are published.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

from PIL import Image

READ = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")
"""Pillow's names of what is read. JPEG includes files of several pictures (MPO), PPM includes PGM and PBM."""

MAX_PIXELS = 100_000_000
"""Of one image. Decoding takes up to eight bytes for each, and nine for the rare modes."""

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow and its decoders raise for images that they cannot decode."""

MAX_SCANS = 64
"""Passes in which one JPEG is drawn; cameras and converters use up to 20. Each costs what the whole image
costs, and takes no more than sixty bytes of a file."""

HEAD = 256
"""Bytes at the beginning of a file that tell what it is."""

_HEIF = "convert it, for example with: heif-convert, or Pillow and pillow-heif"
_CONVERT = "convert it to JPEG or PNG"
_LFS = "fetch the files themselves: git lfs pull"
_PAGE = "download the image again: a page came in its place"
_OTHERS = (
    (0, b"\xff\x0a", "JPEG XL", _CONVERT),
    (4, b"JXL \r\n", "JPEG XL", _CONVERT),
    (4, b"jP  \r\n", "JPEG 2000", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (0, b"8BPS", "Photoshop (PSD)", _CONVERT),
    (0, b"gimp xcf", "GIMP (XCF)", _CONVERT),
    (0, b"%!PS", "PostScript", _CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", _CONVERT),
    (0, b"%PDF", "PDF", _CONVERT),
    (0, b"\x00\x00\x01\x00", "an icon (ICO)", _CONVERT),
    (0, b"qoif", "QOI", _CONVERT),
    (0, b"DDS ", "DDS", _CONVERT),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", _CONVERT),
    (8, b"CR\x02", "a camera's raw file", _CONVERT),
    (4, b"ftypcrx", "a camera's raw file", _CONVERT),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file", _CONVERT),
    (0, b"IIRO", "a camera's raw file", _CONVERT),
    (0, b"IIU\x00", "a camera's raw file", _CONVERT),
    (4, b"ftyp", "a film", "take pictures out of it"),
    (0, b"\x1a\x45\xdf\xa3", "a film", "take pictures out of it"),
    (8, b"AVI ", "a film", "take pictures out of it"),
    (0, b"PK\x03\x04", "an archive (zip)", "unpack it"),
    (0, b"\x1f\x8b", "an archive (gzip)", "unpack it"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file", _LFS),
)
"""Place and bytes that begin other files, what these are, and what to do. The first that fits counts."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

RAW_SUFFIXES = frozenset(".3fr .arw .dcr .dng .erf .iiq .kdc .nef .nrw .pef .sr2 .srf .srw".split())  # noqa: SIM905
"""Cameras' raw files that are TIFF by content, with a thumbnail where a picture would be."""

# Pillow warns and logs about metadata, and from 89 million pixels on. What keeps an image from being read is
# told by `DAMAGE` and `MAX_PIXELS`, with the image's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Of JPEG, within what is drawn."""

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA


class TooManyPixels(ValueError):
    """An image of more than `MAX_PIXELS`, or one that is drawn in more than `MAX_SCANS` passes."""


def open_encoded(encoded: IO[bytes] | Path) -> Image.Image:
    """Open an image of a format that is read; nothing but its header is decoded.

    Raises:
        TooManyPixels: its header says so.
        Exception: one of `DAMAGE`, for whatever is no such image.
    """
    try:
        image = Image.open(encoded, formats=_readable())
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"has more than {MAX_PIXELS // 10**6} million pixels") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise TooManyPixels(f"has {width} × {height} pixels, more than {MAX_PIXELS // 10**6} million")
    return image


def check_scans(encoded: IO[bytes] | Path, image: Image.Image) -> None:
    """Raise TooManyPixels for an opened JPEG of more passes than `MAX_SCANS`, before it is decoded."""
    if image.format not in ("JPEG", "MPO"):
        return
    if isinstance(encoded, Path):
        data = encoded.read_bytes()
    else:
        place = encoded.tell()
        encoded.seek(0)
        data = encoded.read()
        encoded.seek(place)
    if _scans(data) > MAX_SCANS:
        raise TooManyPixels(f"is drawn in more than {MAX_SCANS} passes")


def _scans(data: bytes) -> int:
    """Passes of a JPEG until its end, or `MAX_SCANS` + 1; what cameras put behind the end is none of it."""
    place, scans = 2, 0
    while (marker := _MARKER.search(data, place)) is not None and marker[0][1] != _EOI and scans <= MAX_SCANS:
        scans += marker[0][1] == _SOS
        place = marker.end()
        if marker[0][1] not in (0x01, _SOI):
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return scans


def known_image(path: Path) -> bool:
    """Whether a file is an image of a format that is read, or seems to be a damaged one; by its content.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix.lower() in RAW_SUFFIXES:
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
        if other_file(head, path.name) is not None:
            return False
        formats = [name for name in _readable() if _begins(name, head)]
        if not formats or not {"BMP", "PPM"} & {*formats}:
            return bool(formats)
        # Two letters begin these two, and many a text.
        try:
            open_encoded(file).close()
        except TooManyPixels:
            return True
        except DAMAGE:
            return False
        return True


def other_file(head: bytes, name: str = "") -> tuple[str, str] | None:
    """What a file is that is not read, and what to do about it, or None where that is not known.

    Args:
        head: its first `HEAD` bytes.
        name: tells cameras' raw files from TIFF.
    """
    if Path(name).suffix.lower() in RAW_SUFFIXES:
        return "a camera's raw file", _CONVERT
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head[8:64]:
        return "HEIC", _HEIF
    for place, magic, title, fix in _OTHERS:
        if head[place : place + len(magic)] == magic and not _begins("AVIF", head):
            return title, fix
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page", _PAGE
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG", _CONVERT
    return None


def _begins(name: str, head: bytes) -> bool:
    """Whether Pillow would try the format of that name on a file that begins so."""
    accept = Image.OPEN[name][1] if name in Image.OPEN else None
    return accept is not None and accept(head[:16]) is True


def _readable() -> tuple[str, ...]:
    """`READ`, as far as this Pillow has it."""
    Image.init()
    return tuple(name for name in READ if name in Image.OPEN)
