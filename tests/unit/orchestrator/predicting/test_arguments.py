"""What is typed as images becomes a fixed list, and nothing is left out without a word."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmap_model.errors import ConfigurationError
from orchestrator.predicting.arguments import Arguments
from orchestrator.predicting.listing import Listing


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``x`` with images at two depths, and other files."""
    monkeypatch.chdir(tmp_path)
    for name in ("x/b.png", "x/a.jpg", "x/in/c.jpg", "x/in/deeper/d.webp"):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), "red").save(path)
    Path("x/notes.txt").write_text("no image")
    Path("x/.hidden.jpg").write_text("no image")
    Path("x/broken.jpg").touch()
    return tmp_path


@pytest.fixture
def table() -> Callable[..., Path]:
    def make(target: str, /, **columns: list[object]) -> Path:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), target)
        return Path(target)

    return make


def names(*given: str, **options: object) -> list[str]:
    with Listing(Arguments(given, **options).entries()) as listing:  # type: ignore[arg-type]
        found = [ref.name for ref in listing.refs()]
        assert len(found) == listing.count
        return found


def test_a_folder_is_its_images_sorted_at_every_depth(tree: Path) -> None:
    arguments = Arguments(["x"])
    with Listing(arguments.entries()) as listing:
        found = [ref.name for ref in listing.refs()]
    assert found == ["x/a.jpg", "x/b.png", "x/broken.jpg", "x/in/c.jpg", "x/in/deeper/d.webp"]
    assert len(arguments.left_out) == 1 and "notes.txt" in arguments.left_out[0]


def test_an_image_is_told_by_content_where_its_name_does_not(tree: Path) -> None:
    Path("x/a.jpg").rename("x/photo")
    assert "x/photo" in names("x")


def test_a_folder_linked_into_itself_is_listed_once(tree: Path) -> None:
    Path("x/in/again").symlink_to(tree / "x")
    assert len(names("x")) == 5


def test_files_patterns_and_lists_come_in_the_order_given(tree: Path) -> None:
    listed = io.BytesIO(b"x/in/c.jpg\r\n\nmissing.jpg\ns3://bucket/a b#.jpg?region=us-east-1\n\xff.jpg\n")
    found = names("x/b.png", "x/**/*.webp", "-", "x/*.jpg", listed=listed)
    assert found[:2] == ["x/b.png", "x/in/deeper/d.webp"]
    assert found[2:6] == ["x/in/c.jpg", "missing.jpg", "s3://bucket/a b#.jpg", "\\xff.jpg"]
    assert found[6:] == ["x/a.jpg", "x/broken.jpg"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("y", "there is no y"),
        ("x/*.bmp", "there is no x/"),
        ("x/notes.txt", "- < list.txt"),
        ("empty", "there are no images"),
        ("ftp://host/x", "cannot be opened"),
    ],
)
def test_what_is_not_there_or_no_image_is_refused(tree: Path, given: str, said: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(ConfigurationError, match=said):
        names(given)


def test_a_table_is_one_image_per_row(tree: Path, table: Callable[..., Path]) -> None:
    table("t.parquet", key=[1, 2, 3], image=[b"1", None, b"3"], thumbnail=[b"a", b"b", b"c"])
    assert names("t.parquet") == ["t.parquet#0", "t.parquet#1", "t.parquet#2"]
    with Listing(Arguments(["t.parquet"], column="thumbnail").entries()) as listing:
        assert {ref.column for ref in listing.refs()} == {"thumbnail"}


def test_a_folder_of_tables_is_their_rows_unless_it_has_images(
    tree: Path, table: Callable[..., Path]
) -> None:
    for name in ("data/b.parquet", "data/a.parquet", "x/labels.parquet"):
        table(name, image=[b"1", b"2"])
    assert names("data") == [f"data/{n}.parquet#{row}" for n in "ab" for row in range(2)]
    arguments = Arguments(["x"])
    with Listing(arguments.entries()) as listing:
        assert listing.count == 5
    assert "2 files" in arguments.left_out[0], "a table among images is named, not read"


@pytest.mark.parametrize(
    ("columns", "column", "said"),
    [
        ({"a": [b"1"], "b": [b"2"]}, None, "a, b could be images"),
        ({"a": [1]}, None, "no column holds bytes"),
        ({"image": ["a.jpg"], "b": [1]}, None, "no column holds bytes"),
        ({"image": [b"1"]}, "imgae", "did you mean 'image'"),
        ({"image": [b"1"], "path": ["a.jpg"]}, "path", "holds string"),
    ],
)
def test_a_column_that_is_not_of_images_is_refused(
    tree: Path,
    table: Callable[..., Path],
    columns: dict[str, list[object]],
    column: str | None,
    said: str,
) -> None:
    table("t.parquet", **columns)
    with pytest.raises(ConfigurationError, match=said):
        names("t.parquet", column=column)


def test_a_damaged_table_is_refused(tree: Path) -> None:
    Path("t.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ConfigurationError, match=r"t\.parquet cannot be read"):
        names("t.parquet")
