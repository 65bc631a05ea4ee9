"""What the answers of nodes mean for a study; nodes are made up, no Ray."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.nodes import Node
from mmap_model.backbone_spec import BackboneSpec
from orchestrator.ledger import open_storage
from orchestrator.readiness import NodeAnswer, ReadinessFinding, judge, look_around, read_marks, write_mark
from orchestrator.readiness import probe as probe_module
from orchestrator.readiness.judge import slots_per_node
from orchestrator.study import Study, load_study

GIB = 2**30
HEAD = Node(id="h", address="10.0.0.1", head=True, cpus=8, gpus=0, memory=32 * GIB)
FIRST = Node(id="a", address="10.0.0.2", head=False, cpus=8, gpus=4, memory=64 * GIB)
SECOND = Node(id="b", address="10.0.0.3", head=False, cpus=2, gpus=4, memory=64 * GIB)
NODES = [HEAD, FIRST, SECOND]


def study(*overrides: str) -> Study:
    return load_study("demo", ["storage=/shared/studies", *overrides])


def answer(host: str, **changes: Any) -> NodeAnswer:
    fields: dict[str, Any] = {
        "host": host,
        "time": 1000.0,
        "python": "3.11.7",
        "versions": {"ray": "2.60.0", "torch": "2.13.0"},
        "gpus": 0 if host == "h" else 4,
        "memory": 30 * GIB,
        "missing": {},
        "weights": "",
        "free": 100 * GIB,
    }
    return NodeAnswer(**{**fields, **changes})


def judged(
    *overrides: str, answers: Mapping[str, NodeAnswer | Exception] | None = None, **changes: Any
) -> dict[str, ReadinessFinding]:
    given: dict[str, Any] = {
        "marks": {node.id: "" for node in NODES},
        "unseen": {node.id: [] for node in NODES},
        "tracking": "",
        "token": True,
    }
    heard = {node.id: answer(node.id) for node in NODES} | dict(answers or {})
    found = judge(study(*overrides), NODES, heard, **{**given, **changes})
    return {finding.name: finding for finding in found}


def test_a_cluster_that_is_ready_has_no_complaint() -> None:
    found = judged()
    assert {finding.state for finding in found.values()} == {"ok"}, found
    assert found["GPUs"].text == "8"
    assert "3 nodes" in found["storage"].text
    assert all(finding.fix == "" for finding in found.values())


def test_slots_are_counted_node_by_node() -> None:
    """A slot lies on one node: GPUs of one and cores of another make none."""
    assert slots_per_node(study(), NODES) == {"h": 0, "a": 4, "b": 1}
    assert slots_per_node(study("slots.gpus=0.5"), NODES) == {"h": 0, "a": 7, "b": 1}
    assert slots_per_node(study("slots.gpus=0"), NODES) == {"h": 7, "a": 7, "b": 1}
    assert slots_per_node(study("slots.cpus=4"), NODES) == {"h": 0, "a": 1, "b": 0}


def test_more_slots_than_fit_are_a_warning_and_none_is_an_error() -> None:
    assert judged()["slots"].text.startswith("5 fit: a (10.0.0.2) 4, b (10.0.0.3) 1")
    assert judged("slots.count=5")["slots"].state == "ok"
    assert judged("slots.count=6")["slots"].state == "warning"
    assert judged("slots.cpus=64")["slots"].state == "error"


def test_slots_that_fit_an_empty_cluster_are_told_from_those_that_fit_now() -> None:
    """Of the first node two GPUs are used, of the second all cores; the head has not reported yet."""
    free = {"a": {"CPU": 6.0, "GPU": 2.0, "memory": 1e9}, "b": {"GPU": 4.0}}
    found = judged(free=free)["slots"]
    assert found.state == "ok" and found.text == (
        "5 fit on an empty cluster: a (10.0.0.2) 4, b (10.0.0.3) 1; "
        "2 fit now beside what runs: a (10.0.0.2) 2"
    )
    assert judged("slots.count=2", free=free)["slots"].state == "ok"
    short = judged("slots.count=3", free=free)["slots"]
    assert short.state == "warning" and "slots wait" in short.fix
    assert judged(free={"a": {}, "b": {}})["slots"].text.endswith("0 fit now beside what runs: none")
    assert judged(free={"a": {}, "b": {}})["slots"].state == "warning"
    unused = {node.id: {"CPU": node.cpus, "GPU": node.gpus} for node in NODES}
    assert judged(free=unused)["slots"] == judged()["slots"]


def test_the_head_must_hold_a_controller_for_each_slot() -> None:
    small = {"h": answer("h", memory=3 * GIB)}
    assert judged("slots.count=3", answers=small)["head memory"].state == "ok"
    finding = judged("slots.count=4", answers=small)["head memory"]
    assert finding.state == "error" and "slots.count=3 or fewer" in finding.fix


def test_storage_that_is_not_the_same_place_is_an_error() -> None:
    finding = judged(unseen={"h": [], "a": ["h", "b"], "b": []})["storage"]
    assert finding.state == "error"
    assert finding.text.startswith("a (10.0.0.2) does not see what h (10.0.0.1), head wrote")
    assert "cannot write: denied" in judged(marks={"h": "", "a": "denied", "b": ""})["storage"].text


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"python": "3.11.9"}, "versions", "python differs: 3.11.7 on h (10.0.0.1), head; 3.11.9 on a"),
        (
            {"versions": {"ray": "2.60.0"}},
            "versions",
            "torch differs: 2.13.0 on h (10.0.0.1), head; missing on 1",
        ),
        ({"missing": {"dataset.root": "/data"}}, "data", "dataset.root: /data is not there on a"),
        ({"weights": "not in its cache"}, "weights", "a (10.0.0.2): not in its cache"),
    ],
)
def test_what_a_node_lacks_is_an_error_that_names_it(changes: dict[str, Any], name: str, words: str) -> None:
    finding = judged(answers={"a": answer("a", **changes)})[name]
    assert finding.state == "error" and words in finding.text and finding.fix


def test_warnings() -> None:
    assert judged(answers={"b": answer("b", gpus=2)})["GPUs"].state == "warning"
    assert judged(answers={"b": answer("b", time=1060.0)})["clocks"].text == "b (10.0.0.3) is +60 s off"
    assert judged(token=False)["token"].state == "warning"
    assert judged(tracking="cannot reach http://mlflow")["tracking"].state == "error"


def test_a_node_that_does_not_answer_is_named_with_the_reason() -> None:
    finding = judged(answers={"b": RuntimeError("worker failed\nModuleNotFoundError: orchestrator")})["nodes"]
    assert finding.state == "error" and "10.0.0.3 does not answer: ModuleNotFoundError" in finding.text


def test_marks_are_seen_where_the_storage_is_the_same(tmp_path: Path) -> None:
    assert write_mark(str(tmp_path / "one"), "c", "a") == "" == write_mark(str(tmp_path / "one"), "c", "b")
    assert read_marks(str(tmp_path / "one"), "c", ["a", "b"]) == []
    assert read_marks(str(tmp_path / "two"), "c", ["a", "b"]) == ["a", "b"]
    assert open_storage(tmp_path / "one").names("") == [], "a check leaves no trace in listings"
    (tmp_path / "file").touch()
    assert "NotADirectoryError" in write_mark(str(tmp_path / "file"), "c", "a")


def test_a_node_tells_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"dataset.root": str(tmp_path), "backbone.pretrained": str(tmp_path / "clip.pt")}
    found = look_around(places, BackboneSpec())
    assert found.missing == {"backbone.pretrained": places["backbone.pretrained"]}
    assert found.weights == "" and found.memory > 0 and found.host == socket.gethostname()
    assert {"ray", "torch"} <= set(found.versions)
    weights = probe_module._why_no_weights(BackboneSpec(model="ViT-B-32", pretrained="/nowhere/clip.pt"))
    assert "/nowhere/clip.pt does not exist" in weights
    pointer = tmp_path / "clip.pt"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    weights = probe_module._why_no_weights(BackboneSpec(model="ViT-B-32", pretrained=str(pointer)))
    assert "is a Git LFS pointer" in weights


def test_weights_by_tag_are_cached_or_fetchable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    tag = BackboneSpec(model="ViT-B-32", pretrained="laion2b_s34b_b79k")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(probe_module, "_why_unreachable", lambda host: f"{host} cannot be reached")
    assert "not in its cache, and" in probe_module._why_no_weights(tag)
    snapshot = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K" / "snapshots" / "x"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    assert probe_module._why_no_weights(tag) == ""
    snapshot.rename(tmp_path / "gone")
    monkeypatch.setattr(probe_module, "_why_unreachable", lambda host: "")
    assert probe_module._why_no_weights(tag) == ""
    unknown = BackboneSpec(model="ViT-B-32", pretrained="nobodys")
    assert "knows no weights" in probe_module._why_no_weights(unknown)
