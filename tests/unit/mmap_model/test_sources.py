"""Layouts on disk: the same images have the same names however they lie, and what is missing is named."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.dataset import TableColumns
from mmap_model.data.generated import (
    MINI_DOMAINNET,
    MINI_DOMAINNET_CLASSES,
    class_counts,
    write_mini_domainnet,
    write_office_home,
)
from mmap_model.data.sources import list_source, open_source, register_source
from mmap_model.data.sources.office_home import CLASSES, PUBLISHED
from mmap_model.errors import DatasetError

FEW = ("Alarm_Clock", "ToothBrush", "Trash_Can", "TV")
MINI = ("ant", "sea_turtle", "teddy-bear", "The_Eiffel_Tower")


def office_home(root: Path, **options) -> DatasetSpec:
    return DatasetSpec(name="office_home", root=str(root), **{"classes": FEW, **options})


def mini(root: Path, **options) -> DatasetSpec:
    return DatasetSpec(name="mini_domainnet", root=str(root), **options)


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, Path]:
    """The same images in the three layouts."""
    for layout in ("archive", "dassl", "dassl_dg"):
        write_office_home(tmp_path / layout, layout=layout, classes=FEW, per_class=3, side=8)
    return {layout: tmp_path / layout for layout in ("archive", "dassl", "dassl_dg")}


@pytest.fixture
def mini_root(tmp_path: Path) -> Path:
    write_mini_domainnet(tmp_path, classes=MINI, per_class=10, side=8)
    return tmp_path


def listing(source) -> list:
    return [(t, list(source.ids(t.name)), source.labels(t.name).tolist()) for t in source.tasks]


def test_the_three_office_home_layouts_name_images_alike(homes: dict[str, Path]) -> None:
    sources = {layout: open_source(office_home(root)) for layout, root in homes.items()}
    assert listing(sources["archive"]) == listing(sources["dassl"]) == listing(sources["dassl_dg"])
    tasks = sources["archive"].tasks
    assert [t.name for t in tasks] == ["art", "clipart", "product", "real_world"]
    assert tasks[3].classes == ("alarm clock", "toothbrush", "trash can", "tv")
    assert sources["archive"].ids("real_world")[-1] == "real_world/TV/00003.jpg"
    assert sources["archive"].location("real_world", 0).endswith("Real World/Alarm_Clock/00001.jpg")


def test_names_of_folders_may_differ_in_case_and_spaces(homes: dict[str, Path]) -> None:
    root = homes["archive"]
    before = open_source(office_home(root)).manifest
    (root / "Real World").rename(root / "Real")
    (root / "Art").rename(root / "ART")
    (root / "ART" / "Trash_Can").rename(root / "ART" / "trash can")
    nested = root.with_name("unpacked") / "OfficeHomeDataset"
    nested.parent.mkdir()
    root.rename(nested)
    source = open_source(office_home(nested.parent, tasks=("Real World", "ART")))
    assert [t.name for t in source.tasks] == ["real_world", "art"]
    assert open_source(office_home(nested.parent)).manifest == before


def test_all_65_classes_in_the_order_of_their_labels() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 65 and sum(PUBLISHED.values()) == 15_588
    assert list(CLASSES) == sorted(CLASSES, key=str.lower)
    assert len(MINI_DOMAINNET_CLASSES) == 126 and sum(MINI_DOMAINNET.values()) == 140_006
    counts = class_counts(2_427, 65, 15, 99)
    assert (sum(counts), min(counts), max(counts), len(counts)) == (2_427, 15, 99, 65)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda root: shutil.rmtree(root / "Product"),
            ["lacks the folder Product", "<root>/Art/"],
        ),
        (
            lambda root: [shutil.rmtree(root / d) for d in ("Art", "Real World")],
            ["lacks the folders Art, Real World", "it holds Clipart, Product"],
        ),
        (lambda root: shutil.rmtree(root / "Clipart" / "TV"), ["domain 'clipart' has no image of class TV"]),
        (
            lambda root: (root / "Art" / "TV").rename(root / "Art" / "Televison"),
            ["'Televison' is not a class of Office-Home"],
        ),
        (lambda root: shutil.copytree(root / "Art", root / "art"), ["'Art' and 'art'", "domain 'art'"]),
        (lambda root: shutil.copytree(root / "Art/TV", root / "Art/tv"), ["'TV' and 'tv'", "one class"]),
    ],
)
def test_what_office_home_lacks_is_named(homes: dict[str, Path], damage, words: list[str]) -> None:
    damage(homes["archive"])
    with pytest.raises(DatasetError) as error:
        open_source(office_home(homes["archive"]))
    assert all(word in str(error.value) for word in words), error.value


def test_only_the_tasks_that_are_asked_for_need_be_there(homes: dict[str, Path], mini_root: Path) -> None:
    shutil.rmtree(homes["archive"] / "Product")
    assert len(open_source(office_home(homes["archive"], tasks=("art", "Clipart"))).tasks) == 2
    shutil.rmtree(mini_root / "real")
    assert len(open_source(mini(mini_root, tasks=("sketch", "clipart"))).tasks) == 2


def test_mini_domainnet_takes_labels_and_division_from_its_lists(mini_root: Path) -> None:
    (mini_root / "clipart" / "ant" / "unlisted.jpg").write_bytes(b"")
    (mini_root / "clipart" / "zebra").mkdir()
    source = open_source(mini(mini_root))
    assert [t.name for t in source.tasks] == ["clipart", "painting", "real", "sketch"]
    assert source.tasks[0].classes == ("ant", "sea turtle", "teddy-bear", "The Eiffel Tower")
    split = source.official("sketch")
    assert split is not None and (len(split.train), len(split.test)) == (28, 12)
    listed = (mini_root / "splits_mini" / "sketch_test.txt").read_text().split("\n")[:-1]
    found = {f"{source.ids('sketch')[i]} {source.labels('sketch')[i]}" for i in split.test}
    assert found == set(listed)


def test_labels_are_those_of_the_lists_whatever_the_order_of_names(mini_root: Path) -> None:
    for path in (mini_root / "splits_mini").iterdir():
        lines = (line.rsplit(" ", 1) for line in path.read_text().splitlines())
        path.write_text("".join(f"{image} {3 - int(label)}\n" for image, label in reversed(list(lines))))
    source = open_source(mini(mini_root))
    assert source.tasks[0].classes == ("The Eiffel Tower", "teddy-bear", "sea turtle", "ant")
    assert source.labels("real").tolist() == sorted(source.labels("real").tolist())


def replace_in(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def swap(folder: Path, one: str, other: str) -> None:
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda r: (r / "splits_mini/real_test.txt").unlink(),
            ["the list", "real_test.txt", "<root>/"],
        ),
        (lambda r: shutil.rmtree(r / "sketch"), ["the image folder", "sketch"]),
        (
            lambda r: swap(r / "splits_mini", "clipart_train.txt", "real_train.txt"),
            ["clipart_train.txt:1", "lists images of 'real'", "not of 'clipart'"],
        ),
        (
            lambda r: replace_in(r / "splits_mini/real_train.txt", "real/ant/", "real/aunt/"),
            ["real_train.txt:1", "label 0 is 'aunt'", "before, label 0 is 'ant'"],
        ),
        (
            lambda r: replace_in(r / "splits_mini/painting_train.txt", ".jpg 2", ".jpg 3"),
            ["painting_train.txt:15", "label 3 is 'teddy-bear'"],
        ),
        (lambda r: (r / "real/ant/real_001_000002.jpg").unlink(), ["real/ant/real_001_000002.jpg is listed"]),
        (
            lambda r: [
                p.write_text("".join(f"{x}\n" for x in p.read_text().splitlines() if "teddy" not in x))
                for p in (r / "splits_mini").glob("sketch_*")
            ],
            ["domain 'sketch' has no line of class 'teddy-bear' (label 2)"],
        ),
        (
            lambda r: replace_in(r / "splits_mini/real_test.txt", " 0\n", "\n"),
            ["real_test.txt:1", "is not"],
        ),
    ],
)
def test_lists_that_do_not_fit_are_named(mini_root: Path, damage, words: list[str]) -> None:
    damage(mini_root)
    with pytest.raises(DatasetError) as error:
        open_source(mini(mini_root))
    assert all(word in str(error.value) for word in words), error.value


def test_swapped_training_and_test_lists_matter_where_they_are_kept_to(mini_root: Path) -> None:
    swap(mini_root / "splits_mini", "real_train.txt", "real_test.txt")
    assert open_source(mini(mini_root)).faults == ()
    with pytest.raises(DatasetError, match=r"real_test\.txt: is longer than real_train\.txt"):
        open_source(mini(mini_root, test_source="official"))


def test_full_domainnet_may_lack_a_class_in_one_domain(mini_root: Path) -> None:
    (mini_root / "splits_mini").rename(mini_root / "splits")
    for part in ("train", "test"):
        path = mini_root / "splits" / f"painting_{part}.txt"
        path.write_text("".join(f"{x}\n" for x in path.read_text().splitlines() if "/ant/" not in x))
    spec = DatasetSpec(name="domainnet", root=str(mini_root), tasks=("clipart", "painting"))
    source = open_source(spec)
    assert [len(t.classes) for t in source.tasks] == [4, 3]
    assert source.labels("painting").min() == 0 and source.tasks[1].classes[0] == "sea turtle"


def test_classes_and_words_can_be_chosen(mini_root: Path) -> None:
    whole = open_source(mini(mini_root))
    spec = mini(mini_root, classes=("the eiffel tower", "ant"), class_names={"ant": "small black ant"})
    source = open_source(spec)
    assert source.tasks[0].classes == ("small black ant", "The Eiffel Tower")
    assert source.class_keys("real") == ("ant", "The Eiffel Tower")
    assert [i for i in whole.ids("real") if "/ant/" in i or "Eiffel" in i] == list(source.ids("real"))
    assert source.labels("real").tolist() == [0] * 10 + [1] * 10
    split = source.official("real")
    assert split is not None and len(split.train) == 14 and len(split.test) == 6
    for bad, message in [
        ({"classes": ("ants",)}, "did you mean 'ant'"),
        (
            {"class_names": {"ant": "teddy-bear"}},
            "two classes of task 'clipart' would be",
        ),
        ({"classes": ("ant",)}, "has 1 class"),
    ]:
        with pytest.raises(DatasetError, match=message):
            open_source(mini(mini_root, **bad))


def picture(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


NAMES = ("cat", "dog", "cat", "dog", "cat", "cat")
ROWS = [
    ("b", "cat", 10),
    ("a", "dog", 20),
    ("a", "cat", 30),
    ("b", "dog", 40),
    ("a", "cat", 50),
    ("b", "cat", 60),
]


def plain_table() -> pa.Table:
    return pa.table(
        {
            "image": [picture(colour) for _, _, colour in ROWS],
            "label": [name for _, name, _ in ROWS],
            "task": [task for task, _, _ in ROWS],
            "key": [f"k{colour}" for _, _, colour in ROWS],
        }
    )


def hugging_face_table() -> pa.Table:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("task", pa.string()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [
        {"image": {"bytes": picture(c), "path": None}, "label": int(n == "dog"), "task": t}
        for t, n, c in ROWS
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def write_arrow(table: pa.Table, path: Path, kind=pa.ipc.new_file) -> None:
    with pa.OSFile(str(path), "wb") as sink, kind(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


@pytest.mark.parametrize(
    "write",
    [
        lambda root: pq.write_table(plain_table(), root / "t.parquet", row_group_size=2),
        lambda root: pq.write_table(hugging_face_table(), root / "t.parquet", row_group_size=4),
        lambda root: write_arrow(plain_table(), root / "t.arrow"),
        lambda root: write_arrow(hugging_face_table(), root / "t.arrow", pa.ipc.new_stream),
        lambda root: [pq.write_table(plain_table()[n : n + 3], root / f"{n}.parquet") for n in (0, 3)],
    ],
    ids=["parquet", "hugging-face", "arrow", "stream", "two-files"],
)
def test_tables_are_read_by_task_and_class(tmp_path: Path, monkeypatch, write) -> None:
    monkeypatch.setenv("MMAP_CACHE_DIR", str(tmp_path / "cache"))
    root = tmp_path / "table"
    root.mkdir()
    write(root)
    spec = DatasetSpec(name="table", root=str(root))
    for _ in range(2):  # the second time sizes are remembered
        source = open_source(spec)
        assert [(t.name, t.classes) for t in source.tasks] == [("a", ("cat", "dog")), ("b", ("cat", "dog"))]
        assert list(source.ids("a")) == ["a/cat/00000000", "a/cat/00000001", "a/dog/00000000"]
        assert [source.read("a", n) for n in range(3)] == [picture(c) for c in (30, 50, 20)]
        assert [source.read("b", n) for n in range(3)] == [picture(c) for c in (10, 60, 40)]
        assert source.sizes("b").tolist() == [len(picture(c)) for c in (10, 60, 40)]
        assert source.reading_order("a").tolist() == [2, 0, 1]
    pixels = open_dataset(spec).images("a", np.array([0, 2]), 8)
    assert pixels[:, 0, 0, 0].tolist() == [30, 20]


def test_columns_of_a_table_have_any_names(tmp_path: Path) -> None:
    table = plain_table().rename_columns(["jpg", "kind", "domain", "key"])
    pq.write_table(table, tmp_path / "t.parquet")
    columns = TableColumns(image="jpg", label="kind", task="domain", id="key")
    spec = DatasetSpec(name="table", root=str(tmp_path / "t.parquet"), table=columns)
    assert list(open_source(spec).ids("a")) == ["a/cat/k30", "a/cat/k50", "a/dog/k20"]
    for wrong, where in [
        ({"image": "jpeg"}, "dataset.table.image"),
        ({"image": "kind"}, "not encoded images"),
        ({"task": "domains"}, "did you mean 'domain'"),
        ({"id": "domain"}, "two rows are called"),
    ]:
        given = TableColumns(**{**vars(columns), **wrong})
        with pytest.raises(DatasetError, match=where):
            open_source(DatasetSpec(name="table", root=str(tmp_path / "t.parquet"), table=given))


def test_rows_without_task_or_label_are_told(tmp_path: Path) -> None:
    table = plain_table().set_column(1, "label", pa.array(["cat", None, "cat", "dog", "dog", "cat"]))
    pq.write_table(table, tmp_path / "t.parquet")
    found = list_source(DatasetSpec(name="table", root=str(tmp_path / "t.parquet")))
    assert [(f.kind, f.where.endswith("row 1")) for f in found.faults] == [("bad_line", True)]
    with pytest.raises(DatasetError, match="has no task or no label"):
        open_source(DatasetSpec(name="table", root=str(tmp_path / "t.parquet")))


def test_tasks_may_have_different_classes_in_every_layout(tmp_path: Path) -> None:
    write_office_home(tmp_path, classes=FEW, per_class=2, side=8)
    shutil.rmtree(tmp_path / "Art" / "TV")
    source = open_source(DatasetSpec(name="folder", root=str(tmp_path)))
    assert [len(t.classes) for t in source.tasks] == [3, 4, 4, 4]


def test_listing_does_not_depend_on_the_order_of_the_file_system(mini_root: Path, monkeypatch) -> None:
    import os

    before = open_source(mini(mini_root)).manifest
    real = os.scandir

    class Reversed:
        def __init__(self, path):
            with real(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    folder = DatasetSpec(name="folder", root=str(mini_root), tasks=("real", "clipart"))
    as_folder = open_source(folder).manifest
    monkeypatch.setattr(os, "scandir", Reversed)
    assert open_source(mini(mini_root)).manifest == before
    assert open_source(folder).manifest == as_folder


def test_a_layout_is_registered_once() -> None:
    with pytest.raises(DatasetError, match="registered twice"):
        register_source("office_home", open_source)
    with pytest.raises(DatasetError, match="not a layout"):
        open_source(DatasetSpec(name="symbols"))


@pytest.mark.parametrize("options", [{}, {"classes": MINI[:2]}])
def test_a_source_goes_to_other_processes(mini_root: Path, options: dict[str, tuple[str, ...]]) -> None:
    source = open_source(mini(mini_root, **options))
    again = pickle.loads(pickle.dumps(source))
    assert again.manifest == source.manifest and again.task_called("Sketch") == "sketch"
