"""What is committed stays, what belongs to another run is refused, and the result is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from mmap_model.errors import ConfigurationError
from orchestrator.ledger.storage import StorageError
from orchestrator.predicting.output import METADATA, Output
from orchestrator.predicting.parts import WORDS, Parts, Tally
from orchestrator.predicting.rows import Said, table

RUN = {
    "format": 1,
    "artefact": "ab",
    "images": "cd",
    "count": 10,
    "task": "photo",
    "classes": None,
    "top": 2,
    "precision": "fp32",
    "part": 4,
}
OTHER = {
    "artefact": "ef",
    "images": "gh",
    "count": 11,
    "task": None,
    "classes": ["a"],
    "top": 3,
    "precision": "bf16",
    "part": 5,
    "format": 2,
}


def rows(indices: Sequence[int], *, confidence: bool = False) -> Any:
    said = [
        Said("photo", error=f"{index} is broken")
        if index == 5
        else Said("photo", 0.5 if confidence else None, ["dög", 'a "cat", or'], [0.7, 0.3])
        for index in indices
    ]
    return table(indices, [f"{index}.jpg" for index in indices], said, confidence=confidence)


def read_csv(path: Path) -> list[dict[str, Any]]:
    lists = ("top_labels", "top_probabilities")
    found = pyarrow.csv.read_csv(path).to_pylist()
    return [row | {name: json.loads(row[name]) if row[name] else None for name in lists} for row in found]


READERS = {
    "parquet": lambda path: pq.read_table(path).to_pylist(),
    "csv": read_csv,
    "jsonl": lambda path: [json.loads(line) for line in path.read_text("utf-8").splitlines()],
}


def found_origin(folder: Path, name: str) -> Any:
    if name.endswith(".parquet"):
        return json.loads(pq.read_schema(folder / name).metadata[METADATA])
    return json.loads((folder / f"{name}.json").read_text())


def nothing(_: int) -> None:
    pass


def parts(folder: Path, name: str = "out.parquet", **changed: Any) -> Parts:
    return Parts(Output(str(folder / name)), RUN | changed)


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl"])
def test_a_result_is_all_rows_in_order_and_its_parts_are_gone(tmp_path: Path, name: str) -> None:
    found = parts(tmp_path, name)
    assert found.begin(restart=False) == frozenset()
    seen: list[int] = []
    found.commit([rows([9, 3, 8]), rows([0, 2, 1]), rows([4, 5, 6, 7])], seen.append)
    assert seen == [3, 3, 4]
    assert found.join({"kind": "prompts"}) == Tally(10, 1)
    assert {path.name for path in tmp_path.iterdir()} == {name} | (
        set() if name == "out.parquet" else {f"{name}.json"}
    )
    read = READERS[name.partition(".")[2]](tmp_path / name)
    assert [row["image"] for row in read] == [f"{index}.jpg" for index in range(10)]
    assert list(read[0]) == [
        *("image", "task", "label", "probability", "top_labels", "top_probabilities", "error"),
    ]
    assert (read[0]["label"], round(read[0]["probability"], 6)) == ("dög", 0.7)
    assert read[0]["top_labels"] == ["dög", 'a "cat", or']
    assert [round(p, 6) for p in read[0]["top_probabilities"]] == [0.7, 0.3]
    assert read[5]["error"] == "5 is broken" and not read[5]["label"] and not read[5]["top_labels"]
    origin = found_origin(tmp_path, name)
    assert origin["kind"] == "prompts" and origin["run"] == RUN and origin["errors"] == 1
    assert found.finished() and found.errors() == 1


def test_the_confidence_of_the_task_is_a_column_where_it_was_chosen(tmp_path: Path) -> None:
    found = parts(tmp_path, task=None)
    found.begin(restart=False)
    found.commit([rows(range(10), confidence=True)], nothing)
    found.join({})
    assert pq.read_table(tmp_path / "out.parquet").column_names[2] == "task_confidence"


def test_whole_parts_are_committed_and_a_later_run_goes_on_from_them(tmp_path: Path) -> None:
    def killed() -> Any:
        yield rows([0, 1, 2, 3])
        yield rows([8, 9])
        yield rows([4, 5])
        raise KeyboardInterrupt

    first = parts(tmp_path)
    first.begin(restart=False)
    with pytest.raises(KeyboardInterrupt):
        first.commit(killed(), nothing)
    assert not (tmp_path / "out.parquet").exists()
    again = parts(tmp_path)
    done = again.begin(restart=False)
    assert done == {0, 2} and again.images(done) == 6
    again.commit([rows([4, 5, 6, 7])], nothing)
    again.join({})
    read = READERS["parquet"](tmp_path / "out.parquet")
    assert [row["image"] for row in read] == [f"{index}.jpg" for index in range(10)]


@pytest.mark.parametrize("key", OTHER)
def test_parts_and_results_of_another_run_are_refused(tmp_path: Path, key: str) -> None:
    first = parts(tmp_path)
    first.begin(restart=False)
    other = parts(tmp_path, **{key: OTHER[key]})
    assert other.begin(restart=False) == frozenset(), "a run that committed nothing binds nobody"
    first.commit([rows([0, 1, 2, 3])], nothing)
    with pytest.raises(ConfigurationError, match=f"{WORDS[key]}.*\n.*--restart"):
        other.begin(restart=False)
    first.commit([rows(range(4, 10))], nothing)
    first.join({})
    with pytest.raises(ConfigurationError, match=WORDS[key]):
        other.finished()


def test_restart_forgets_what_was_committed(tmp_path: Path) -> None:
    first = parts(tmp_path)
    first.begin(restart=False)
    first.commit([rows(range(10))], nothing)
    other = parts(tmp_path, top=3)
    assert other.begin(restart=True) == frozenset()
    other.commit([rows([0, 1, 2, 3, 8, 9])], nothing)
    assert parts(tmp_path, top=3).begin(restart=False) == {0, 2}


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl"])
def test_a_file_of_something_else_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigurationError, match="was not written by this command"):
        parts(tmp_path, name).finished()


def test_a_result_whose_writing_fails_leaves_the_one_before_and_the_parts(tmp_path: Path) -> None:
    found = parts(tmp_path)
    found.begin(restart=False)
    found.commit([rows(range(10))], nothing)
    (tmp_path / "out.parquet").write_text("before")
    (tmp_path / "out.parquet.parts" / "000002.parquet").unlink()
    with pytest.raises(StorageError, match=r"part 2 of .* is gone"):
        found.join({})
    assert (tmp_path / "out.parquet").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "out.parquet.parts"]


def test_one_process_at_a_time_works_on_a_result(tmp_path: Path) -> None:
    with parts(tmp_path):
        with pytest.raises(ConfigurationError, match="another process"), parts(tmp_path):
            pass
        with parts(tmp_path, "other.parquet"):
            pass
    with parts(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["out", "out.txt", ".parquet", "folder/", "s3://bucket/out.pq", "-"])
def test_a_name_without_a_format_is_refused(out: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\.parquet, \.csv, \.jsonl"):
        Output(out)
