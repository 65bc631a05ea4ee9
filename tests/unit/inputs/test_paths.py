"""Places that people name: each row is one, and where it leads or what has to be said of it."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cluster.connect import require_cluster
from cluster.errors import ClusterError
from mmap_model.paths import expanded
from orchestrator.slots import cluster, environment
from orchestrator.study import load_study
from orchestrator.tracking.backends import check_tracking
from orchestrator.tracking.mlflow.backend import file_of

if TYPE_CHECKING:
    from tests.unit.inputs.conftest import Ask

TEXT = (
    "name: x\nsplits: [{shots: 1}]\nseeds: [1]\nspace: []\ngrouping: {mode: single}\n"
    "settings: {prompt_length: 2, source_rows: 2, source_cols: 4}\nrecipe: {epochs: 1, warmup_epochs: 0}\n"
)


@pytest.mark.parametrize("home", ["home", "a héim #1"])
def test_a_tilde_is_home_wherever_a_place_is_named(
    home: str, ask: Ask, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree.parent / home
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    tree.rename(folder / "tree")
    (folder / "x.yaml").write_text(f"{TEXT}dataset: {{name: folder, root: ~/tree}}\n")
    data = ("dataset.root=~/tree", "splits=[{shots: 1}]", "seeds=[1]")
    assert ask("data", "check", "folder", data[0]).code == 0
    assert ask("data", "draws", "export", "folder", str(folder / "lists"), *data).code == 0
    assert ask("plan", "~/x.yaml", "dataset.lists=~/lists", "storage=~/runs").code == 0
    assert ask("data", "check", "folder", data[0], "--fix", "dataset.excluded=~/left-out.json").code == 0
    assert (folder / "left-out.json").exists()
    assert ask("data", "prepare", "folder", data[0], "--output=~/store").code == 0
    assert ask("data", "classes", "folder", "dataset.store=~/store").code == 0
    assert ask("run", "~/x.yaml", "storage=~/runs").code == 0
    assert (folder / "runs" / "cells").is_dir()
    uri = load_study("~/x.yaml", ["tracking.uri=sqlite:///~/m.db"]).tracking.resolved_uri
    assert file_of(uri) == folder / "m.db"
    check_tracking(uri)
    assert not [p.name for p in Path().iterdir() if p.name.startswith("~")]


@pytest.mark.parametrize("text", ["~nobody-of-that-name/x", "~", "~/x", "x~", "./~"])
def test_a_tilde_of_nobody_is_a_name(text: str) -> None:
    written = os.path.expanduser(text)  # noqa: PTH111 (leaves names of nobody as they are)
    assert str(expanded(text)) == str(Path(written))


SQLITE = {
    "sqlite:///a%20b/m.db": "a b/m.db",
    "sqlite:///a b/m.db": "a b/m.db",
    "sqlite:///a#1/m.db": "a#1/m.db",
    "sqlite:///100%/m.db": "100%/m.db",
    "sqlite:///a%2520b/m.db": "a%20b/m.db",
    "sqlite:///é/m.db": "é/m.db",
    "sqlite:///m.db?timeout=9": "m.db",
}


@pytest.mark.parametrize("uri", SQLITE)
def test_a_database_is_checked_where_it_is_written(uri: str, tmp_path: Path, monkeypatch: Any) -> None:
    from sqlalchemy.engine import make_url

    monkeypatch.chdir(tmp_path)
    check_tracking(uri)
    assert str(file_of(uri)) == SQLITE[uri] == make_url(uri).database
    assert Path(SQLITE[uri]).parent.is_dir()


NO_CLUSTER = {
    "127.0.0.1:1": "no cluster answers at 127.0.0.1:1",
    "ray://127.0.0.1:1": "no cluster answers at ray://127.0.0.1:1",
    "localhost": "it is not HOST:PORT",
    "127.0.0.1:99999": "no cluster answers",
    "127.0.0.1:port": "no cluster answers",
    "http://127.0.0.1:8265": "is the dashboard of a cluster",
    "s3://bucket": "it is not HOST:PORT",
    ":": "it is not HOST:PORT",
}


@pytest.mark.parametrize("command", [("sweep", "x.yaml"), ("compare", "x.yaml", "--methods", "zero_shot")])
@pytest.mark.parametrize("address", NO_CLUSTER)
def test_a_cluster_that_is_not_there_is_told_of_at_once(
    address: str, command: tuple[str, ...], ask: Ask, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x.yaml").write_text(f"{TEXT}dataset: {{name: folder, root: {tree}}}\n")
    monkeypatch.setenv("RAY_ADDRESS", address)
    answer = ask(*command)
    assert answer.code == 2, answer.text
    assert "RAY_ADDRESS" in answer.text
    assert NO_CLUSTER[address] in answer.text
    assert not Path("runs").exists()


def test_a_head_node_that_takes_connections_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_cluster(f"127.0.0.1:{server.getsockname()[1]}")
        require_cluster("auto")


TEMPORARY = {
    # TMPDIR, RAY_TMPDIR, and the RAY_TMPDIR that Ray sees
    "short": ("/tmp/job", None, None),
    "just_short_enough": ("/" + "x" * 38, None, None),
    "too_long": ("/scratch/" + "x" * 60, None, "/tmp"),
    "bytes_count": ("/scratch/" + "é" * 25, None, "/tmp"),
    "given": ("/scratch/" + "x" * 60, "/local", "/local"),
    "none": (None, None, None),
}


@pytest.mark.parametrize("name", TEMPORARY)
def test_rays_sockets_fit_below_its_temporary_folder(name: str) -> None:
    tmpdir, ray_tmpdir, expected = TEMPORARY[name]
    variables = {k: v for k, v in (("TMPDIR", tmpdir), ("RAY_TMPDIR", ray_tmpdir)) if v is not None}
    environment.prepare(variables)
    assert variables.get("RAY_TMPDIR") == expected
    folder = variables.get("RAY_TMPDIR") or tmpdir or "/tmp"
    assert len(os.fsencode(folder + environment.SOCKET)) <= environment.LONGEST_SOCKET


def test_a_temporary_folder_of_ray_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    # Of a Ray that is up in this process already, as that which tests share, nothing is asked.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/" + "x" * 60)
    with pytest.raises(ClusterError, match="longer than Ray's sockets allow"):
        cluster.start_ray(slots=1, cpus=1, gpus=0)


def test_daemons_of_a_ray_that_does_not_come_up_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private import services

    started: list[subprocess.Popen[bytes]] = []

    def init(**_: Any) -> None:
        code = "import time; time.sleep(600)"
        started.append(services.ConsolePopen([sys.executable, "-c", code]))
        raise Exception("The current node timed out during startup. The GCS has become overloaded.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(cluster.RayNotUp, match="did not come up in 3 attempts"):
        cluster.start_ray(slots=1, cpus=1, gpus=0)
    assert [process.poll() is not None for process in started] == [True] * cluster.ATTEMPTS


def test_rays_node_is_given_more_than_its_own_thirty_seconds() -> None:
    from ray._private import node

    before = time.monotonic()
    with cluster._given_time():
        seen = node.time.monotonic()
        assert before <= seen * cluster.SLOWER <= time.monotonic()
        assert node.time.time() <= time.time()
    assert node.time is time


@pytest.mark.parametrize("name", [b"caf\xe9", "写真 #1".encode(), b"it's", b"x" * 200], ids=ascii)
def test_a_study_runs_in_any_folder_or_is_refused_before_it_starts(
    name: bytes, ask: Ask, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsdecode(os.fsencode(tree.parent) + b"/" + name)
    Path(folder).mkdir()
    monkeypatch.chdir(folder)
    Path("x.yaml").write_text(f"{TEXT}dataset: {{name: folder, root: {tree}}}\n")
    if name == b"caf\xe9":  # which Ray does not take
        answer = ask("sweep", "x.yaml")
        assert (answer.code, "is not UTF-8" in answer.text) == (2, True), answer.text
        assert not Path("runs").exists()
    answer = ask("run", "x.yaml")
    assert answer.code == 0, answer.text
    if name != b"caf\xe9":
        assert shlex.split(ask("plan", "x.yaml").out.partition("Start it with:")[2])[-1] == "x.yaml"


LONG_PLACES = ("dataset.root", "dataset.lists", "dataset.excluded", "dataset.store", "storage")


@pytest.mark.parametrize("key", LONG_PLACES)
@pytest.mark.parametrize("place", ["a" * 300, "b/" * 3000, "c" * 5000])
def test_a_place_of_a_very_long_name_is_refused(key: str, place: str, ask: Ask, tree: Path) -> None:
    Path("x.yaml").write_text(f"{TEXT}dataset: {{name: folder, root: {tree}}}\n")
    answer = ask("run", "x.yaml", f"{key}={place}")
    assert answer.code == 2, answer.text


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "a" * 300 + ".yaml"),
        ("plan", "a" * 5000),
        ("plan", "demo", "method=" + "a" * 300 + ".py:M"),
        ("plan", "demo", "backbone={model: ViT-B-32, pretrained: ./" + "a" * 300 + "}"),
        ("plan", "demo", "backbone.model=local-dir:" + "a" * 300),
        ("plan", "demo", "tracking={backend: " + "a" * 300 + ".py:T, uri: x://y}"),
        ("results", "x", "--storage", "a" * 300),
        ("data", "draws", "import", "demo", "a" * 300, "out"),
    ],
    ids=lambda a: "_".join(a)[:30],
)
def test_a_file_of_a_very_long_name_is_refused(arguments: tuple[str, ...], ask: Ask) -> None:
    answer = ask(*arguments)
    assert answer.code in (0, 2), answer.text
    assert answer.code == 2 or "tracking" in arguments[-1], answer.text


@pytest.mark.parametrize(
    "given", ["root=x", "lists=x", "classes=[sun]", "class_names={sun: star}", "store=x"]
)
def test_what_the_embedded_benchmark_does_not_use_is_refused(given: str, ask: Ask) -> None:
    answer = ask("plan", "demo", f"dataset.{given}")
    assert (answer.code, "has no use" in answer.text) == (2, True), answer.text
