"""Which backend a tracking URI has, whether it can be used, and what it cannot do."""

from __future__ import annotations

import importlib.metadata
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mmap_model.errors import InputError
from orchestrator.study import Tracking, load_study
from orchestrator.tracking import TrackingError, check_tracking, find_backend
from orchestrator.tracking.backends import shortcomings
from orchestrator.tracking.mlflow.backend import Mlflow, make_private

MINE = """
from orchestrator.tracking import Backend, Delivery

class Mine(Backend):
    schemes = ("mine",)
    cannot = ("It forgets tags",)

    def write(self, operations, *, late=False):
        return Delivery()

class Nowhere(Backend):
    def write(self, operations, *, late=False):
        return Delivery()

class Silent(Backend):
    schemes = ("silent",)

class NoTracker: ...
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run beside a file with trackers."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)


def test_a_usable_sqlite_file_passes_and_is_not_left_behind(tmp_path: Path) -> None:
    check_tracking(f"sqlite:///{tmp_path}/new/mlflow.db")
    assert not (tmp_path / "new/mlflow.db").exists()
    sqlite3.connect(tmp_path / "old.db").execute("CREATE TABLE t (x)").connection.commit()
    check_tracking(f"sqlite:///{tmp_path}/old.db")


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///{tmp}/text.db",
        "sqlite:////proc/nowhere/mlflow.db",
        "sqlite:///",
        "file:///{tmp}/mlruns",
        "mlruns",
        "http://127.0.0.1:9",
    ],
)
def test_an_unusable_tracking_uri_is_an_input_error(tmp_path: Path, uri: str) -> None:
    (tmp_path / "text.db").write_text(
        "this is no database, only text that is long enough to be looked at" * 20
    )
    with pytest.raises(TrackingError, match=r"tracking\.uri") as caught:
        check_tracking(uri.format(tmp=tmp_path), timeout=1)
    assert caught.value.fix


@pytest.mark.parametrize(
    "uri", ["sqlite:///x.db", "https://tracking", "postgresql+psycopg2://host/db", "databricks://profile"]
)
def test_what_mlflow_takes_goes_to_mlflow(uri: str) -> None:
    assert find_backend(uri) is Mlflow


def test_what_a_plugin_of_mlflow_takes_goes_to_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = importlib.metadata.EntryPoint("wonder", "wonder:Store", "mlflow.tracking_store")
    found = importlib.metadata.EntryPoints([plugin])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found.select(group=group))
    assert find_backend("wonder://somewhere") is Mlflow
    with pytest.raises(TrackingError):
        find_backend("blunder://somewhere")


@pytest.mark.parametrize(
    ("uri", "name", "where", "said"),
    [
        ("mine:runs", None, "tracking.uri", "nothing here serves mine:"),
        ("sqlite:///x.db", "mine.py:Mine", "tracking.uri", "begins with mine:"),
        ("mine:runs", "mine.py:NoTracker", "tracking.backend", "is not a tracker"),
        ("mine:runs", "mine.py:Nothing", "tracking.backend", "is not a tracker"),
        ("silent:runs", "mine.py:Silent", "tracking.backend", "a method write"),
        ("mine:runs", "mine.py:Nowhere", "tracking.backend", "schemes"),
        ("mine:runs", "yours.py:Mine", "tracking.backend", "yours.py does not exist"),
        ("mine:runs", "Mine", "tracking.backend", "file.py:MyTracker"),
    ],
)
@pytest.mark.usefixtures("mine")
def test_a_backend_that_is_none_is_an_input_error(uri: str, name: Any, where: str, said: str) -> None:
    with pytest.raises(TrackingError) as caught:
        find_backend(uri, name)
    assert caught.value.where == where and said in str(caught.value) and caught.value.fix


@pytest.mark.usefixtures("mine")
def test_what_a_backend_leaves_out_is_said_with_what_it_says_itself() -> None:
    remembers, page, tags = shortcomings(check_tracking("mine:runs", "mine.py:Mine"))
    assert "everything again" in remembers and "orchestrator ui" in page and tags == "It forgets tags"
    assert list(shortcomings(Mlflow)) == []


def test_a_study_names_its_tracker_and_one_that_names_none_is_stored_as_before() -> None:
    given = ["tracking.uri=mine:runs", "tracking.backend=mine.py:Mine"]
    assert load_study("demo", given).to_plain()["tracking"] == {"uri": "mine:runs", "backend": "mine.py:Mine"}
    assert load_study("demo").to_plain()["tracking"] == {"uri": None}
    with pytest.raises(InputError, match=r"tracking\.uri.*is not told where to write"):
        load_study("demo", ["tracking.backend=mine.py:Mine"])


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Tracking().resolved_uri == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert Tracking().resolved_uri == "http://tracking:5000"


def test_a_database_in_the_folder_of_the_run_is_private_and_others_follow_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        make_private("sqlite:///mlflow.db")
    assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "mlartifacts").stat().st_mode & 0o777 == 0o700
    Mlflow.check("sqlite:///mlflow.db", 1.0)
    make_private("sqlite:///missing/mlflow.db")
    make_private(f"sqlite:///{tmp_path}/shared.db")
    make_private("http://host:5000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db"]
