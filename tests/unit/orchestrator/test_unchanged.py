"""A study goes on with the data and the weights that it was begun with, wherever they lie, and no others."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from mmap_model.architecture import model_directory
from mmap_model.cells import Configuration
from mmap_model.errors import InputError
from mmap_model.revisions import revisions_of
from orchestrator.cli.main import execute
from orchestrator.compare.plan import plan_comparison
from orchestrator.driver import compare_agenda, confirm_study, run_study, study_agenda
from orchestrator.driver.compare import run_comparison
from orchestrator.ledger import Ledger, StudyDamaged, StudyStore, TrialRecord
from orchestrator.ledger.documents import decode, encode
from orchestrator.study import StudyPlan, load_plan
from orchestrator.work.shown import NoteShown, Shown

STUDY = """
name: unit
dataset: {{name: folder, root: {images}}}
backbone: {{model: "local-dir:{backbone}"}}
settings: {{prompt_length: 2, source_rows: 2, source_cols: 4}}
splits: [{{shots: 2}}]
seeds: [1, 2]
recipe: {{epochs: 2, batch_size: 4}}
grouping: {{mode: random}}
space: [{{name: learning_rate, low: 0.001, high: 0.1}}]
search: {{trials: 2}}
storage: {runs}
tracking: {{uri: "sqlite:///{runs}.db"}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images and lists that the studies of ``tests/records`` are about."""
    path = Path(__file__).parents[2] / "records" / "images.py"
    spec = importlib.util.spec_from_file_location("images_of_records", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("made")
    module.make_images(folder / "images")
    module.make_lists(folder / "lists")
    return folder


class Place:
    """A folder with images, weights and a study file about them."""

    def __init__(self, folder: Path, made: Path) -> None:
        self.folder = folder
        self.images, self.backbone = folder / "images", folder / "clip"
        shutil.copytree(made / "images", self.images)
        shutil.copytree(model_directory("symbols"), self.backbone)
        self.file = folder / "unit.yaml"
        self.write()

    def write(self) -> None:
        runs = self.folder / "runs"
        self.file.write_text(STUDY.format(images=self.images, backbone=self.backbone, runs=runs))

    @property
    def plan(self) -> StudyPlan:
        return load_plan(str(self.file))

    @property
    def store(self) -> StudyStore:
        return StudyStore(self.folder / "runs", "unit")

    def replace_images(self) -> None:
        """Others under the same names: all of a class shrink."""
        for path in (self.images / "ink" / "bell").glob("*.bmp"):
            Image.open(path).resize((24, 24)).save(path)

    def replace_weights(self) -> None:
        path = self.backbone / "open_clip_model.safetensors"
        weights = load_file(path)
        weights["visual.proj"] = weights["visual.proj"] + np.float32(0.01)
        save_file(weights, path)


@pytest.fixture
def place(tmp_path: Path, made: Path) -> Place:
    return Place(tmp_path, made)


class Asked(Exception):
    """Ends a session before it starts."""


@pytest.fixture
def begun(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A study with one complete trial; nothing more is ever trained."""

    def refuse(*_: Any, **__: Any) -> None:
        raise Asked

    monkeypatch.setattr(study_agenda, "StudyAgenda", refuse)
    monkeypatch.setattr(compare_agenda, "CompareAgenda", refuse)
    with pytest.raises(Asked):
        run_study(place.plan)
    finish_trial(place.plan, place.store)
    return place


def finish_trial(plan: StudyPlan, store: StudyStore, number: int = 0) -> TrialRecord:
    """Record a complete trial with made-up numbers, as a driver and its workers leave it."""
    params = plan.space.preset()
    point = plan.space.replay(params)
    configuration = Configuration(
        method=point.method, settings=point.settings, recipe=point.recipe, partition=((0, 1),)
    )
    cells = []
    for seeds in plan.study.seeds:
        cell = plan.cell(configuration, plan.study.splits[0], seeds)
        record = {
            "cell": cell.to_dict(),
            "metrics": {"accuracy": 0.5},
            "revisions": revisions_of(cell),
            "epochs": 2,
            "grouping": None,
        }
        Ledger(store.storage).commit(cell.key, record, {"prompts.safetensors": b"p"})
        named = {"split": cell.split.label, "seed": seeds.label, "partition": [[0, 1]], "parameters": 1}
        cells.append({"key": cell.key, **named})
    trial = TrialRecord(
        number=number,
        state="complete",
        value=0.5,
        params=params,
        point=point.to_dict(),
        cells=cells,
        fence=store.driver_fence(),
    )
    store.save_trial(trial)
    return trial


def forget_inputs(store: StudyStore) -> None:
    """Make the study one of before its data and weights were recorded with it."""
    path = "studies/unit/study.json"
    document = decode(store.storage.read(path) or b"")
    store.storage.write(path, encode({name: document[name] for name in ("study", "saved_at")}))
    store.storage.delete("studies/unit/study.copy.json")


Change = Callable[[Place], None]


def shrink_images(place: Place) -> None:
    place.replace_images()


def swap_bytes(place: Place) -> None:
    """Two images of one size change places."""
    one, other = (place.images / "ink" / name / "00.bmp" for name in ("bell", "key"))
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1])
    other.write_bytes(content[0])


def exclude(place: Place) -> None:
    """As ``data check --fix`` does with a damaged image."""
    (place.images / "paint" / "key" / "03.bmp").write_bytes(b"no image")
    assert execute(["data", "check", str(place.file), "--fix"]) in (0, 1)


def other_weights(place: Place) -> None:
    place.replace_weights()


CHANGES = [
    (shrink_images, ["dataset: ", "other images", "task 'ink' has other file names or sizes", "manifest"]),
    (swap_bytes, ["other images", "task 'ink' has other bytes under the same file names"]),
    (exclude, ["other images", "task 'paint' has 36 images, found 35 (key: 12, found 11)"]),
    (
        other_weights,
        [
            "backbone: ",
            "other weights",
            "the backbone differs in image embeddings or projection (fingerprint",
        ],
    ),
]

with_changes = pytest.mark.parametrize(("change", "words"), CHANGES)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    assert raised.value.fix is not None
    assert "put those" in raised.value.fix and "name=unit-2" in raised.value.fix
    return str(raised.value)


@with_changes
def test_a_sweep_with_other_data_or_weights_is_refused_before_anything_starts(
    begun: Place, change: Change, words: list[str]
) -> None:
    before = begun.store.load_invocations()
    change(begun)
    said = refusal(lambda: run_study(begun.plan))
    for word in words:
        assert word in said
    assert begun.store.load_invocations() == before


@with_changes
def test_confirm_with_other_data_or_weights_is_refused(
    begun: Place, change: Change, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    change(begun)
    said = refusal(lambda: confirm_study(begun.plan, numbers=[0]))
    assert words[-1] in said
    for further in ([], ["--seeds", "4,5"]):
        assert execute(["confirm", "unit", "--storage", str(begun.folder / "runs"), *further]) == 2
        told = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert "was begun with other" in told
    assert begun.store.load_test_evaluations() == []


def test_a_cell_is_not_trained_again_on_other_data(begun: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (trial,) = begun.store.load_trials()
    shrink_images(begun)
    assert execute(["run", str(begun.file), "--cell", trial.keys[0][:12]]) == 2
    assert "was begun with other images" in " ".join(capsys.readouterr().err.replace("│", " ").split())


@with_changes
def test_a_comparison_with_other_data_or_weights_is_refused(
    begun: Place, change: Change, words: list[str]
) -> None:
    with pytest.raises(Asked):
        run_comparison(plan_comparison(str(begun.file), methods=["coop_mt"]))
    change(begun)
    said = refusal(lambda: run_comparison(plan_comparison(str(begun.file), methods=["coop_mt"])))
    assert "study 'compare-unit' was begun with" in said and words[-1] in said


def test_a_study_continues_after_a_move_of_its_data_and_weights(begun: Place) -> None:
    for name in ("images", "clip"):
        shutil.move(begun.folder / name, begun.folder / f"{name}-moved")
    begun.images = begun.folder / "images-moved"
    begun.write()
    with pytest.raises(InputError, match=r"backbone\.model"):
        run_study(begun.plan)
    shutil.move(begun.folder / "clip-moved", begun.backbone)
    with pytest.raises(Asked):
        run_study(begun.plan)


def test_data_that_come_back_are_taken_again(begun: Place, made: Path) -> None:
    shrink_images(begun)
    refusal(lambda: run_study(begun.plan))
    shutil.rmtree(begun.images)
    shutil.copytree(made / "images", begun.images)
    with pytest.raises(Asked):
        run_study(begun.plan)


def test_a_torn_study_record_lets_no_other_settings_or_data_in(begun: Place) -> None:
    record = begun.folder / "runs" / "studies" / "unit" / "study.json"
    record.write_text("torn")
    with pytest.raises(InputError, match=r"recipe\.epochs"):
        run_study(load_plan(str(begun.file), ["recipe.epochs=3"]))
    shown: list[Shown] = []
    with pytest.raises(Asked):
        run_study(begun.plan, shown.append)
    notes = [event.text for event in shown if isinstance(event, NoteShown)]
    assert any("study.json" in note and "study.copy.json beside it takes its place" in note for note in notes)
    record.write_text("torn")
    shrink_images(begun)
    refusal(lambda: run_study(begun.plan))


def test_a_study_whose_records_are_both_torn_is_not_run(begun: Place) -> None:
    for name in ("study.json", "study.copy.json"):
        (begun.folder / "runs" / "studies" / "unit" / name).write_text("torn")
    with pytest.raises(StudyDamaged, match=r"study\.json: (?s:.*)study\.copy\.json: "):
        run_study(begun.plan)
    with pytest.raises(StudyDamaged):
        confirm_study(begun.plan, numbers=[0])


def test_another_study_may_have_the_other_data(begun: Place) -> None:
    shrink_images(begun)
    with pytest.raises(Asked):
        run_study(load_plan(str(begun.file), ["name=unit-2"]))


def test_an_older_study_is_compared_by_its_cells_and_records_its_inputs(begun: Place) -> None:
    forget_inputs(begun.store)
    with pytest.raises(Asked):
        run_study(begun.plan)
    recorded = begun.store.load_inputs()
    assert recorded is not None and recorded["manifest"] == begun.plan.data.manifest
    forget_inputs(begun.store)
    shrink_images(begun)
    with pytest.raises(InputError) as raised:
        run_study(begun.plan)
    assert "results of study 'unit' come from other images than there are now: trial 0: " in str(raised.value)
    assert recorded["manifest"] in str(raised.value) and begun.plan.data.manifest in str(raised.value)
    assert begun.store.load_inputs() is None, "nothing is recorded of what was refused"
    with pytest.raises(InputError, match="come from other images"):
        confirm_study(begun.plan, numbers=[0])


def test_an_older_study_with_other_weights_is_refused(begun: Place) -> None:
    forget_inputs(begun.store)
    other_weights(begun)
    with pytest.raises(InputError, match="come from other weights than there are now: trial 0: fingerprint"):
        run_study(begun.plan)


def test_an_older_study_that_is_mixed_already_is_refused_and_says_which_trials(begun: Place) -> None:
    forget_inputs(begun.store)
    shrink_images(begun)
    finish_trial(begun.plan, begun.store, number=1)
    with pytest.raises(InputError) as raised:
        run_study(begun.plan)
    assert "already, and not all on the same: trial 0: manifest" in str(raised.value)
    assert "trial 1: manifest" in str(raised.value)
    assert raised.value.fix is not None and "put" not in raised.value.fix


def test_results_of_a_study_that_is_mixed_already_say_so(
    begun: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["results", "unit", "--storage", str(begun.folder / "runs")]
    assert execute(results) == 0
    assert "Mixed:" not in capsys.readouterr().out
    shrink_images(begun)
    finish_trial(begun.plan, begun.store, number=1)
    assert execute(results) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Mixed: these rows come from different images or weights" in said
    manifests = {
        record["cell"]["dataset"][:8]
        for record in Ledger(begun.folder / "runs")
        .get_many(Ledger(begun.folder / "runs").finished())
        .values()
    }
    assert len(manifests) == 2 and all(f"images {manifest}" in said for manifest in manifests)


def test_the_data_of_a_study_are_in_every_item(place: Place) -> None:
    plan = place.plan
    item = plan.work_item(plan.study.point, item_id="a")
    assert item.inputs["manifest"] == plan.data.manifest
    assert item.inputs["fingerprint"] == plan.fingerprint
    assert json.loads(json.dumps(item.to_dict()))["inputs"] == item.inputs
    assert all(part.inputs == item.inputs for part in item.parts(2))
