"""Files, tables and names from strangers: read, or refused in words; none of them harms the machine."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec
from mmap_model.data.check import check_source
from mmap_model.data.check.images import inspect
from mmap_model.data.decoding import evaluation_view, open_image
from mmap_model.data.faults import KINDS
from mmap_model.data.formats import MAX_PIXELS
from mmap_model.data.generated import write_office_home
from mmap_model.data.sources import list_source, open_source
from mmap_model.errors import DatasetError
from orchestrator.cli.main import execute
from orchestrator.printable import printable

WORKS = ""
ESC = "\x1b"
TITLE = f"{ESC}]0;mine\x07"
"""Sets the title of the terminal's window."""


def plain(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def saved(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    plain(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def blank_png(width: int, height: int, colour: int = 2, depth: int = 8, *extra: bytes) -> bytes:
    """A PNG of zeros: thousands of times smaller than its pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + (width * channels * depth + 7) // 8)
    packer, data = zlib.compressobj(1), []
    rows = max(1, 2**22 // len(row))
    for start in range(0, height, rows):
        data.append(packer.compress(row * min(rows, height - start)))
    data.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", b"".join(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gif_screen(side: int) -> bytes:
    whole = bytearray(saved("GIF", "P"))
    whole[6:10] = struct.pack("<HH", side, side)
    return bytes(whole)


def endless_tiff() -> bytes:
    """A TIFF whose second directory is its first."""
    whole = bytearray(saved("TIFF"))
    first = struct.unpack_from("<I", whole, 4)[0]
    entries = struct.unpack_from("<H", whole, first)[0]
    struct.pack_into("<I", whole, first + 2 + 12 * entries, first)
    return bytes(whole)


def jpeg_of_passes(more: int, behind: bytes = b"") -> bytes:
    """A progressive JPEG whose last pass is drawn again and again."""
    whole = saved("JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:end] + whole[last:end] * more + whole[end:] + behind


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\n%%EOF\n"
BOX = b"\x00\x00\x00\x18ftyp"

IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    # What is read, whatever it is called.
    "jpeg": (lambda: saved("JPEG"), WORKS),
    "jpeg_of_two_pictures": (
        lambda: saved("MPO", save_all=True, append_images=[plain()]),
        WORKS,
    ),
    "png": (lambda: saved("PNG"), WORKS),
    "gif": (lambda: saved("GIF", "P"), WORKS),
    "bmp": (lambda: saved("BMP"), WORKS),
    "tiff": (lambda: saved("TIFF"), WORKS),
    "tiff_in_a_circle": (endless_tiff, WORKS),
    "webp": (lambda: saved("WEBP"), WORKS),
    "ppm": (lambda: saved("PPM"), WORKS),
    "pgm": (lambda: saved("PPM", "L"), WORKS),
    "avif": (lambda: saved("AVIF"), WORKS),
    "jpeg_of_some_passes": (lambda: jpeg_of_passes(40), WORKS),
    "jpeg_before_a_film": (lambda: jpeg_of_passes(0, b"\xff\xda\x00\x08" * 10_000), WORKS),
    "wide_line": (lambda: blank_png(8000, 1), WORKS),
    "tall_line": (lambda: blank_png(1, 8000), WORKS),
    "one_pixel": (lambda: blank_png(1, 1), WORKS),
    # What another program would have to read, or what this one should not.
    "postscript": (lambda: POSTSCRIPT, "PostScript"),
    "binary_postscript": (lambda: b"\xc5\xd0\xd3\xc6" + bytes(26) + POSTSCRIPT, "PostScript"),
    "pdf": (lambda: b"%PDF-1.4\n", "PDF"),
    "photoshop": (lambda: b"8BPS\x00\x01" + bytes(40), "Photoshop"),
    "icon": (lambda: saved("ICO"), "an icon"),
    "jpeg_2000": (lambda: saved("JPEG2000"), "JPEG 2000"),
    "jpeg_xl": (lambda: b"\xff\x0a" + bytes(40), "JPEG XL"),
    "heic": (lambda: BOX + b"heic\x00\x00\x00\x00mif1heic" + bytes(40), "HEIC.*heif-convert"),
    "heif_of_another_brand": (lambda: BOX + b"mif1\x00\x00\x00\x00mif1heic" + bytes(40), "HEIC"),
    "svg": (lambda: b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "web_page": (lambda: b"<!DOCTYPE html><html>404</html>", "a web page.*download"),
    "git_lfs_pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "windows_metafile": (lambda: b"\xd7\xcd\xc6\x9a" + bytes(80), "cannot identify"),
    "nothing_known": (lambda: b"not an image at all", "cannot identify"),
    # Bombs and damage.
    "many_pixels": (lambda: blank_png(20_000, 20_000, 0, 1), "more than 100 million"),
    "just_too_many_pixels": (lambda: blank_png(MAX_PIXELS // 10_000 + 1, 10_000, 0, 1), "10001 × 10000"),
    "jpeg_of_many_passes": (lambda: jpeg_of_passes(5000), "more than 64 passes"),
    "large_screen": (lambda: gif_screen(60_000), "more than 100 million"),
    "packed_text": (
        lambda: blank_png(8, 8, 2, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**7)))),
        "too large",
    ),
    "cut_off": (lambda: saved("PNG")[:1500], "truncated|broken|incomplete"),
    "wrong_checksum": (lambda: saved("PNG")[:20] + b"\xff" + saved("PNG")[21:], "cannot identify"),
}


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_is_read_or_refused_in_words(name: str) -> None:
    make, expected = IMAGES[name]
    encoded = make()
    found = {kind for kind, _ in inspect(encoded) if KINDS[kind].severity == "error"}
    if expected is WORKS:
        assert evaluation_view(open_image(io.BytesIO(encoded), "mug/1.png"), 32).size == (32, 32)
        assert not found
    else:
        with pytest.raises(DatasetError, match=rf"(?s)mug/1\.png cannot be decoded: .*({expected})"):
            open_image(io.BytesIO(encoded), "mug/1.png")
        assert len(found) == 1, "data check finds what reading refuses"


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """With bytes changed, put in, left out or cut off, more of them where the header is."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(len(data) if chance.random() < 0.5 else min(len(data), 120))
        what = chance.random()
        if what < 0.6:
            data[place] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        elif what < 0.75:
            del data[place : place + chance.randrange(1, 20)]
        elif what < 0.9:
            data[place:place] = chance.randbytes(chance.randrange(1, 9))
        else:
            del data[place + 1 :]
        data = data or bytearray(1)
    return bytes(data)


FORMATS = {
    **{f"{kind} {mode}": (kind, mode, {}) for kind in ("JPEG", "TIFF") for mode in ("RGB", "CMYK", "L")},
    **{f"TIFF {c}": ("TIFF", "RGB", {"compression": c}) for c in ("tiff_lzw", "tiff_deflate", "packbits")},
    **{f"PNG {mode}": ("PNG", mode, {}) for mode in ("RGB", "P", "RGBA", "I;16", "1")},
    **{kind: (kind, "RGB", {}) for kind in ("GIF", "BMP", "WEBP", "PPM", "AVIF")},
    "MPO": ("MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),
}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_mutated_image_is_read_or_refused_and_data_check_says_the_same(name: str) -> None:
    kind, mode, options = FORMATS[name]
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image = plain("L").convert("I;16") if mode == "I;16" else plain(mode)
    image.save(buffer, kind, exif=exif, **options)
    chance = random.Random(name)
    outcomes = set()
    for _ in range(150):
        encoded = mutated(buffer.getvalue(), chance)
        try:
            evaluation_view(open_image(io.BytesIO(encoded), "mug/1.png"), 16)
            refused = False
        except DatasetError:
            refused = True
        found = {kind for kind, _ in inspect(encoded) if KINDS[kind].severity == "error"}
        assert bool(found) == refused, encoded.hex()
        outcomes.add(refused)
    assert True in outcomes, "some were damaged"


def test_postscript_in_a_png_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    for program in ("gs", "gswin32c", "gswin64c"):
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\ntouch {started}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    write_office_home(tmp_path / "images", tasks=("art",), classes=("Mug", "TV"), per_class=2, side=8)
    (tmp_path / "images" / "Art" / "Mug" / "00001.jpg").write_bytes(POSTSCRIPT)
    given = DatasetSpec(
        name="office_home", root=str(tmp_path / "images"), tasks=("art",), classes=("Mug", "TV")
    )
    assert [f.kind for f in check_source(list_source(given)).faults if f.severity == "error"] == [
        "unreadable"
    ]
    source = open_source(given)
    with pytest.raises(DatasetError, match="PostScript"):
        open_image(io.BytesIO(source.read("art", 0)), source.location("art", 0))
    assert source.extents("art", np.arange(1)).tolist() == [[0, 0]]
    assert not started.exists()


FRUGAL = """
import io, resource, sys
from mmap_model.data.check.images import inspect
from mmap_model.data.decoding import evaluation_view, open_image, training_original
from mmap_model.errors import DatasetError

encoded = sys.stdin.buffer.read()
open_image(io.BytesIO(bytes.fromhex("50360a31203120323535 0a000000")), "loads the decoders")
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 10**9, now + 10**9))
inspect(encoded)
try:
    image = open_image(io.BytesIO(encoded), "mug/1.png")
    training_original(image, min(image.size), 224)
    print(evaluation_view(image, 224).size)
except DatasetError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (lambda: blank_png(8000, 1), "(224, 224)"),
        (lambda: blank_png(1, 90_000), "(224, 224)"),
        (lambda: blank_png(9_900, 9_900, 6), "(224, 224)"),
        (lambda: blank_png(9_900, 9_900, 0, 16), "(224, 224)"),
        (lambda: blank_png(13_000, 13_000, 0, 1), "mug/1.png cannot be decoded"),
    ],
    ids=["wide", "tall", "transparent", "deep", "too_many"],
)
def test_no_image_takes_a_gigabyte(encoded: Callable[[], bytes], said: str) -> None:
    done = subprocess.run([sys.executable, "-c", FRUGAL], input=encoded(), capture_output=True, check=False)
    assert said in done.stdout.decode(), done.stderr.decode()[-2000:]


def table(folder: Path, tasks: tuple[str, str], classes: tuple[str, str] = ("ant", "bee")) -> Path:
    images = [
        (task, name, blank_png(8 + number, 8)) for task in tasks for name in classes for number in range(12)
    ]
    columns = {key: [row[n] for row in images] for n, key in enumerate(("task", "label", "image"))}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "images.parquet")
    return folder / "images.parquet"


@pytest.mark.parametrize("task", ["../../outside", "/tmp/mmap-outside", "..", ".", "a/b"])
def test_a_tasks_name_writes_nothing_outside_of_the_folder(task: str, tmp_path: Path, capsys) -> None:
    root = table(tmp_path / "a" / "b" / "table", ("harmless", task))
    lists = tmp_path / "a" / "b" / "lists"
    before = sorted(tmp_path.rglob("*"))
    code = execute(["data", "draws", "export", "table", str(lists), f"dataset.root={root}"])
    assert code == 2
    assert "cannot have lists" in " ".join(capsys.readouterr().err.split())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("colours", [False, True])
def test_no_escape_sequence_of_a_name_reaches_the_terminal(
    colours: bool, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colours:
        monkeypatch.setenv("FORCE_COLOR", "1")
    root = table(tmp_path, ("photo", f"art{TITLE}"), (f"ant{TITLE}", "bee\x9b2J"))
    study = tmp_path / f"stu{TITLE}dy.yaml"
    study.write_text(f'"unknown{ESC.encode("unicode_escape").decode()}]0;mine\\a": 1\n')
    for command in (
        ["data", "check", "table", f"dataset.root={root}", "--shots", "12"],
        ["data", "check", "table", f"dataset.root={root}", "dataset.tasks=[no" + TITLE + "]"],
        ["data", "classes", "table", f"dataset.root={root}"],
        ["data", "check", "table", f"dataset.root={root}", f"dataset.{TITLE}=1"],
        ["plan", str(study)],
        ["plan", f"demo{TITLE}"],
        ["data", "classes", "table", f"dataset.root={root}", "--json"],
    ):
        execute(command)
        said = "".join(capsys.readouterr())
        assert said
        assert f"{ESC}]" not in said and "\x07" not in said and "\x9b" not in said, command
        assert colours or ESC not in said, command


def test_what_reorders_or_commands_is_shown_as_a_symbol() -> None:
    assert printable("a\tb\nünï ☃") == "a\tb\nünï ☃"
    assert printable("\x00\x1b[31m\r\x7f\x9b") == "␀␛[31m␍␡\N{REPLACEMENT CHARACTER}"
    assert printable("exe.\u202egpj") == "exe.\N{REPLACEMENT CHARACTER}gpj"


def linked_tree(tmp_path: Path) -> DatasetSpec:
    """A tree in which one image is a link within it, one leads out, and a class folder leads out."""
    write_office_home(tmp_path / "in", tasks=("art",), classes=("Mug", "TV"), per_class=4, side=8)
    write_office_home(tmp_path / "out", tasks=("art",), classes=("Mug", "TV"), per_class=4, side=9)
    mugs = tmp_path / "in" / "Art" / "Mug"
    (mugs / "5.jpg").symlink_to(mugs / "00001.jpg")
    (mugs / "6.jpg").symlink_to("../../../out/Art/Mug/00001.jpg")
    (tmp_path / "in" / "Art" / "Pen").symlink_to(tmp_path / "out" / "Art" / "TV")
    (tmp_path / "root").symlink_to(tmp_path / "in")
    return DatasetSpec(name="folder", root=str(tmp_path / "root"))


def test_links_that_lead_out_are_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    followed = linked_tree(tmp_path)
    assert len(open_source(followed).ids("Art")) == 14
    inside = DatasetSpec(name="folder", root=followed.root, links="inside")
    faults = check_source(list_source(inside)).faults
    outside = {fault.id for fault in faults if fault.kind == "outside"}
    assert outside == {"Art/Mug/6.jpg", *(f"Art/Pen/0000{n}.jpg" for n in range(1, 5))}
    with pytest.raises(DatasetError, match=r"(?s)lies outside of the root.*dataset\.links"):
        open_source(inside)
    assert open_source(inside_without_links(tmp_path)).faults == ()


def inside_without_links(tmp_path: Path) -> DatasetSpec:
    return DatasetSpec(name="folder", root=str(tmp_path / "out"), links="inside")


def garbled(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 64] = bytes(64)
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_damaged_table_is_read_or_refused_in_words(place: float, tmp_path: Path) -> None:
    garbled(table(tmp_path, ("a", "b")), place)
    try:
        check_source(list_source(DatasetSpec(name="table", root=str(tmp_path))))
    except DatasetError as error:
        assert "images.parquet" in str(error)


@pytest.mark.parametrize(
    ("names", "value", "said"),
    [(["ant", "bee"], 2, "names of 0 to 1"), (["ant", "bee"], -1, "holds -1"), (3, 0, WORKS)],
)
def test_label_numbers_without_a_name_are_refused(
    names: object, value: int, said: str, tmp_path: Path
) -> None:
    features = {"info": {"features": {"label": {"names": names}}}}
    labels = pa.array([0, 1, value] * 4)
    rows = pa.table({"task": ["a"] * 12, "label": labels, "image": [blank_png(8, 8)] * 12})
    pq.write_table(
        rows.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "t.parquet"
    )
    spec = DatasetSpec(name="table", root=str(tmp_path))
    if said is WORKS:
        assert open_source(spec).tasks[0].classes == ("0", "1")
    else:
        with pytest.raises(DatasetError, match=said):
            open_source(spec)


def test_a_nested_record_of_excluded_images_is_refused_in_words(tmp_path: Path) -> None:
    write_office_home(tmp_path, tasks=("art",), classes=("Mug", "TV"), per_class=2, side=8)
    (tmp_path / "excluded.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match="is not a record of excluded images"):
        open_source(DatasetSpec(name="folder", root=str(tmp_path)))
