"""The example of docs/custom_method.md is what the page shows, keeps the contract, and trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmap_model import references
from mmap_model.cells import Point
from mmap_model.configuration import Seeds, Split
from mmap_model.testing import CHECKS, Subject, check_method
from orchestrator.cli.main import execute
from orchestrator.ledger import Ledger
from orchestrator.study import StudyError, check_rerun, load_study, study_from_plain
from orchestrator.work.item import WorkItem

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "feature_gain.py"
NAME = "feature_gain.py:FeatureGain"
CASES = [{}, {"regime": "single", "shift": False, "gain_init": 0.1}, {"regime": "grouped"}]

ELSEWHERE = """
import json, sys
from orchestrator.work.item import WorkItem
from orchestrator.execution.executor import Executor
item = WorkItem.from_dict(json.loads(sys.argv[1]))
told = []
Executor(item.dataset, item.backbone, item.storage, threads=1).run(item, told.append)
assert told[-1].state == "complete", told[-1]
"""


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from the folder of the example."""
    monkeypatch.chdir(EXAMPLE.parent)


def test_the_page_shows_the_example() -> None:
    assert f"```python\n{EXAMPLE.read_text()}```" in (DOCS / "custom_method.md").read_text()


@pytest.mark.parametrize("settings", CASES)
@pytest.mark.parametrize("check", CHECKS)
def test_the_example_keeps_the_contract(check: str, settings: dict[str, object]) -> None:
    CHECKS[check](Subject(f"{EXAMPLE}:FeatureGain", settings, least_drop=0.2))


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("(2 if settings.shift else 1)", "1", "the_count_is_that_of_the_trained_tensors"),
        ("of_tasks(self.gain)", "of_tasks(self.gain.detach())", "every_trained_tensor_gets_a_gradient"),
        ("F.normalize(changed, dim=-1)", "changed", "logits_are_finite_exactly_where_a_task_has_classes"),
        ('name="feature_gain"', "name=str(torch.rand(1))", "the_train_seed_alone_decides_the_start"),
        (
            "of_tasks(self.gain)",
            "of_tasks(self.gain[:1].expand_as(self.gain))",
            "every_trained_tensor_gets_a_gradient",
        ),
    ],
)
def test_the_contract_names_what_a_method_breaks(tmp_path: Path, old: str, new: str, check: str) -> None:
    text = EXAMPLE.read_text()
    assert text.count(old) == 1
    broken = tmp_path / "broken.py"
    own_name = f'name = "{tmp_path.name.lower()}"'
    broken.write_text(text.replace(old, new).replace('name = "feature_gain"', own_name))
    with pytest.raises(AssertionError, match=check):
        check_method(f"{broken}:FeatureGain", [{"gain_init": 0.1}])


def test_it_trains_and_is_scored_where_its_file_is_not(beside: None, tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    for domain in ("clipart", "sketch"):
        for label, name in enumerate(("anchor", "star")):
            folder = tmp_path / "images" / domain / name
            folder.mkdir(parents=True)
            for number in range(8):
                pixels = noise.integers(0, 128, (32, 32, 3)) + 127 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    item = WorkItem.of(
        Point.from_dict({"method": NAME, "recipe": {"epochs": 2, "batch_size": 4}}),
        splits=(Split(shots=2),),
        seeds=(Seeds.both(1), Seeds.both(2)),
        item_id="i",
        study="own",
        dataset={"name": "folder", "root": str(tmp_path / "images")},
        backbone={"model": "symbols"},
        storage=str(tmp_path / "runs"),
        test=True,
    )
    command = [sys.executable, "-c", ELSEWHERE, json.dumps(item.to_dict())]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    ledger = Ledger(tmp_path / "runs")
    records = ledger.get_many(ledger.finished())
    assert len(records) == 2 and set(ledger.tests(records)) == set(records)
    for record in records.values():
        assert record["parameters"] == 2 * 128
        assert record["cell"]["configuration"]["method"] == NAME
        own = record["provenance"]["own_method"]
        assert (own["name"], own["version"], list(own["sha256"])) == ("feature_gain", 1, ["feature_gain.py"])


def test_commands_take_it_by_its_file(beside: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--method", NAME, "--regime", "single", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 4 * 2 * 128
    study = ["demo", "name=gain", f"method={NAME}", "grouping=null", "space=[learning_rate]"]
    assert execute(["plan", *study, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["most"] == 2 * 128
    assert execute(["plan", *study[:2], "method=feature_gane.py:FeatureGain"]) == 2
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "feature_gane.py does not exist" in shown and "override method=" in shown


def test_a_study_that_has_begun_refuses_a_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["name=gain", "method=mine.py:FeatureGain", "grouping=null", "space=[learning_rate]"]
    text = EXAMPLE.read_text().replace('name = "feature_gain"', 'name = "gain_of_a_study"')
    Path("mine.py").write_text(text)
    stored = load_study("demo", given)
    for changed in (text + "# a remark\n", text.replace("version = 1", "version = 2")):
        references.provide("mine.py", changed)
        again = load_study("demo", given)
        if changed.startswith(text):
            check_rerun(stored, again)
    with pytest.raises(StudyError, match=r"method_version.*stored with 1, now it is 2"):
        check_rerun(study_from_plain(stored.to_plain(), "study.json"), again)
