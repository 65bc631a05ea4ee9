"""The winner on classes and tasks that it was not trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmap_model.data.dataset import DatasetSpec
from mmap_model.errors import InputError
from orchestrator.cli.main import execute
from orchestrator.exporting.choice import choose
from orchestrator.exporting.transfer import Target, Transfer, document, target_of
from orchestrator.face.stored import Stored

CLASSES = ("anchor", "bell", "key", "mug", "star")
Train = Callable[..., Stored]


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks of five classes of seven images."""
    root = tmp_path_factory.mktemp("five")
    for t, task in enumerate(("photo", "sketch", "paint")):
        for c, name in enumerate(CLASSES):
            (root / task / name).mkdir(parents=True)
            for number in range(7):
                rng = np.random.default_rng([t, c, number])
                pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / task / name / f"{number}.png")
    return root


def dataset(tree: Path, **options: Any) -> dict[str, Any]:
    return {"name": "folder", "root": str(tree), "tasks": ["photo", "sketch"], **options}


@pytest.fixture(scope="session")
def of_base(trained: Train, tree: Path) -> Stored:
    return trained(dataset=dataset(tree, class_half="base"))


def never() -> Any:
    raise AssertionError("nothing else is opened")


def test_new_classes_are_scored_beside_base_ones(of_base: Stored) -> None:
    target = target_of(of_base, "new", never)
    chosen = choose(of_base.store, of_base.ledger, all_seeds=True)
    transfer = Transfer(of_base, chosen, target)
    scores = transfer.scores()
    assert set(scores) == {"1", "2"} and transfer.tasks == ["photo", "sketch"]
    for own in scores.values():
        for one in own:
            assert one.prompts == [one.task] and one.images == 5 * 3
            assert set(one.tuned) == {"base", "new", "all"}
    found = document(transfer, scores, trial=0)
    first = [sum(one.tuned[name] for one in scores["1"]) / 2 for name in ("base", "new")]
    second = [sum(one.tuned[name] for one in scores["2"]) / 2 for name in ("base", "new")]
    by_seed = [2 * b * n / (b + n) if b and n else 0.0 for b, n in (first, second)]
    assert found["tuned"]["harmonic"]["mean"] == pytest.approx(sum(by_seed) / 2)
    assert found["tuned"]["harmonic"]["n"] == 2
    assert scores["1"][0].plain == scores["2"][0].plain, "all seeds are tested on the same images"


def test_base_accuracy_is_that_of_the_recorded_test_evaluation(of_base: Stored) -> None:
    """The same images and prompts, through the exported form."""
    from mmap_model.backbone import load_backbone
    from mmap_model.cells import Cell
    from mmap_model.data import open_dataset
    from mmap_model.training import score_test

    chosen = choose(of_base.store, of_base.ledger, all_seeds=True)
    cells = [Cell.from_dict(dict(one.record["cell"])) for one in chosen]
    files = {
        one.key: {
            name: of_base.ledger.read_file(one.key, name) for name in ("prompts.safetensors", "prompts.json")
        }
        for one in chosen
    }
    known = score_test(
        cells, files, load_backbone(of_base.study.backbone), open_dataset(of_base.study.dataset)
    )
    scores = Transfer(of_base, chosen, target_of(of_base, "new", never)).scores()
    for one in chosen:
        tasks = known[one.key]["metrics"]["tasks"]
        assert {own.task: own.tuned["base"] for own in scores[one.seed]} == pytest.approx(
            {name: tasks[name]["accuracy"] for name in tasks}
        )


@pytest.mark.parametrize(
    ("prompts", "used"), [("mean", ["photo", "sketch"]), ("sketch", ["sketch"]), ("nearest", None)]
)
def test_an_unseen_task_is_classified_by_the_prompts_of_seen_ones(
    of_base: Stored, prompts: str, used: list[str] | None
) -> None:
    target = target_of(of_base, "paint", never)
    assert target.kind == "unseen" and target.dataset.tasks == ("paint",)
    chosen = choose(of_base.store, of_base.ledger, all_seeds=True)
    scores = Transfer(of_base, chosen, target, prompts).scores()
    for own in scores.values():
        (one,) = own
        assert one.task == "paint" and one.images == 3 * 3
        assert (
            one.prompts == used if used else one.prompts[0] in ("photo", "sketch") and len(one.prompts) == 1
        )
        assert set(one.tuned) == {"accuracy"}


def test_what_cannot_be_scored_is_refused(of_base: Stored, trained: Train, tree: Path) -> None:
    whole = trained("zero_shot", dataset=dataset(tree))
    with pytest.raises(InputError, match="trained on all classes"):
        target_of(whole, "new", never)
    with pytest.raises(InputError, match="was trained on task 'photo'"):
        target_of(whole, "photo", never)
    chosen = choose(of_base.store, of_base.ledger, all_seeds=True)
    with pytest.raises(InputError, match="no task 'paint'"):
        Transfer(of_base, chosen, target_of(of_base, "paint", never), "paint")


@pytest.mark.parametrize("method", ["tip_adapter", "tip_adapter_f"])
def test_a_cache_classifies_an_unseen_task_of_its_own_classes(
    trained: Train, tree: Path, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = trained(method, {"regime": "multi"}, dataset=dataset(tree))
    chosen = choose(stored.store, stored.ledger, all_seeds=True)
    seen: list[Any] = []
    monkeypatch.setattr(Transfer, "_numbers", lambda self, found, labels: seen.append(found) or {})
    (one,) = Transfer(stored, chosen[:1], target_of(stored, "paint", never)).scores()["1"]
    tuned, plain = seen
    assert one.prompts == ["photo", "sketch"] and tuned.shape == plain.shape == (15, 5)
    assert np.abs(tuned - plain).max() > 0.01, "the cache counts"
    for task in ("photo", "sketch"):
        shutil.copytree(tree / task, tmp_path / task)
    for name in CLASSES[:3]:
        shutil.copytree(tree / "paint" / name, tmp_path / "fewer" / name)
    fewer = DatasetSpec(name="folder", root=str(tmp_path), tasks=("fewer",))
    with pytest.raises(InputError, match="in their order"):
        Transfer(stored, chosen, Target("unseen", fewer, "fewer")).scores()


def test_the_command_records_what_it_evaluated(
    of_base: Stored, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(of_base.store.storage.root)
    looks = len(of_base.store.load_test_evaluations())
    assert execute(["transfer", "made", "--storage", root, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "base_to_new" and set(found["tuned"]) == {"base", "new", "all", "harmonic"}
    assert execute(["transfer", "made", "--to", "folder", "--storage", root, f"dataset.root={tree}"]) == 0
    assert "Prompts of: photo, sketch." in capsys.readouterr().out
    assert execute(["results", "made", "--storage", root]) == 0
    assert "trial 0 on new classes: base " in " ".join(capsys.readouterr().out.split())
    kept = of_base.store.load_transfers()
    assert [one["target"] for one in kept] == ["new classes", "folder"] and kept[0]["tuned"] == found["tuned"]
    assert len(of_base.store.load_test_evaluations()) == looks + 2
    assert "transfer" in of_base.store.load_test_evaluations()[-1]["reason"]


def test_targets_are_values() -> None:
    from mmap_model.data import DatasetSpec

    assert Target("unseen", DatasetSpec(), "x") == Target("unseen", DatasetSpec(), "x")
