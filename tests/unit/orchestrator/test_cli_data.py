"""``orchestrator data``: checking, class names, lists of draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmap_model.cells import Configuration
from mmap_model.configuration import Seeds
from mmap_model.data import DatasetSpec, open_dataset
from mmap_model.data.generated import write_mini_domainnet, write_office_home
from mmap_model.errors import DatasetError
from mmap_model.training.replicate import draw_tasks
from orchestrator.cli.main import execute
from orchestrator.driver.draws import check_draws, draw_records, keep_draws, study_draws
from orchestrator.ledger import StudyStore
from orchestrator.study import StudyError, load_study, plan_study
from orchestrator.study.draws import check_fixed_lists

FEW = ("Alarm_Clock", "Mug", "TV")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of the study ``office_home`` for a small tree."""
    monkeypatch.chdir(tmp_path)
    write_office_home(tmp_path / "home", tasks=("art", "real_world"), classes=FEW, per_class=20, side=8)
    return [
        f"dataset.root={tmp_path / 'home'}",
        "dataset.tasks=[Art, Real World]",
        f"dataset.classes={list(FEW)}",
    ]


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).replace("│", " ").split())


def test_check_of_clean_images_passes(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["data", "check", "office_home", *home]) == 0
    out = shown(capsys)
    assert "120 images: art 60, real_world 60" in out and "passed: nothing is wrong" in out


def test_check_fixes_by_a_record_that_studies_obey(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "home" / "Art" / "Mug" / "00007.jpg"
    broken.write_bytes(b"")
    assert execute(["data", "check", "office_home", *home, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"zero_bytes": 1} and not found["passed"] and found["record"] is None
    assert not (tmp_path / "home" / "excluded.json").exists()

    assert execute(["data", "check", "office_home", *home, "--fix"]) == 0
    out = shown(capsys)
    assert "1 images are left out from now on" in out and "passed" in out
    assert broken.exists()
    assert execute(["data", "check", "office_home", *home]) == 0
    assert "119 images" in shown(capsys)


def test_check_of_a_layout_without_a_study(home: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["data", "check", "folder", home[0], "--shots", "17"]) == 0
    assert "6 × too few images for the shots" in shown(capsys)
    assert execute(["data", "check", "nothing"]) == 2
    assert "neither a study nor a layout" in shown(capsys)


def test_what_the_check_passes_is_what_the_plan_takes(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for shots, code in ((19, 0), (20, 1)):
        study = ["office_home", *home, f"splits=[{{shots: {shots}}}]", "grouping.probe.source_cols=32"]
        assert execute(["data", "check", *study]) == code
        assert ("task whose shots leave nothing to test" in shown(capsys)) == bool(code)
        assert execute(["plan", *study, "backbone={model: symbols}"]) == 2 * code
        assert ("fewer in 6 of 6" in shown(capsys)) == (not code)


def test_a_place_that_cannot_be_written_is_told_at_once(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["data", "check", "office_home", *home, "dataset.excluded=/nowhere/x.json", "--fix"]) == 2
    assert "/nowhere/x.json cannot be written" in shown(capsys)


def test_classes_are_shown_as_they_stand_in_prompts(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["data", "classes", "office_home", *home, "dataset.class_names={TV: television}"]) == 0
    out = shown(capsys)
    assert "alarm clock: a photo of a alarm clock." in out and "tv: a photo of a television." in out
    assert execute(["data", "classes", "office_home", *home, "recipe.template=one {}", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["classes"]
    assert rows[0] == {
        "class": "alarm clock",
        "name": "alarm clock",
        "prompt": "one alarm clock",
        "tasks": ["art", "real_world"],
    }


def test_exported_draws_come_back_as_they_were(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["data", "draws", "export", "office_home", "lists", *home]) == 0
    assert "dataset.lists=lists" in shown(capsys)
    lines = Path("lists/real_world/train_6-shot_seed1.txt").read_text().splitlines()
    assert len(lines) == 18 and lines[0].startswith("real_world/Alarm_Clock/") and lines[0].endswith(" 0")

    drawn = load_study("office_home", home)
    listed = load_study("office_home", [*home, "dataset.lists=lists"])
    data = [open_dataset(study.dataset) for study in (drawn, listed)]
    assert data[0].manifest != data[1].manifest, "lists are part of what a cell is"
    for (split, seed, own), (_, _, theirs) in zip(
        study_draws(drawn, data[0]), study_draws(listed, data[1]), strict=True
    ):
        for task in own:
            for part in ("train", "validation", "test"):
                assert getattr(own[task], part).tolist() == getattr(theirs[task], part).tolist(), (
                    split,
                    seed,
                )


def test_lists_of_another_machine_are_imported(
    home: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "split"
    for folder, name in (("Art", "Art"), ("Real_World", "Real World")):
        (foreign / folder).mkdir(parents=True)
        lines = [
            f"/data1/x/OfficeHome/{name}/{c}/{n:05d}.jpg {2 - i}" for i, c in enumerate(FEW) for n in (1, 2)
        ]
        (foreign / folder / "train_10.txt").write_text("\n".join(lines))
    options = [*home, "splits=[{percent: 10}]", "protocol=paper", "space=[]"]
    assert execute(["data", "draws", "import", "office_home", str(foreign), "mine", *options]) == 0
    assert "art 10%, seed 1: 6 train, 0 validation, 54 test" in shown(capsys)
    study = load_study("office_home", [*options, "dataset.lists=mine"])
    dataset = open_dataset(study.dataset)
    _, _, tasks = next(study_draws(study, dataset))
    assert [dataset.sample_ids("real_world")[i] for i in tasks["real_world"].train][
        -1
    ] == "real_world/TV/00002.jpg"

    train = foreign / "Art" / "train_10.txt"
    for text, words in [
        (
            "/x/Art/Mug/00001.jpg 0\n/x/Art/Mug/99999.jpg 0",
            "train_10.txt:2: art has no image /x/Art/Mug/99999.jpg",
        ),
        ("/x/Real World/Mug/00001.jpg 0", "is of real_world, not of art"),
        ("/x/Art/Mug/00001.jpg 0\n/x/Art/TV/00001.jpg 0", "label 0 of /x/Art/TV/00001.jpg does not go with"),
        ("/x/Art/Mug/00001.jpg 0\n/y/art/mug/00001.jpg 0", "is listed twice"),
        ("/x/Art/Mug/00001.jpg", "is not <path> <label>"),
    ]:
        train.write_text(text)
        assert execute(["data", "draws", "import", "office_home", str(foreign), "mine", *options]) == 2
        assert words.replace(" ", "") in shown(capsys).replace(" ", "")
    shutil.rmtree(foreign / "Art")
    assert execute(["data", "draws", "import", "office_home", str(foreign), "mine", *options]) == 2
    assert "no folder of lists for art" in shown(capsys)


def test_lists_without_validation_images_leave_some_of_the_test_images(
    home: list[str], tmp_path: Path
) -> None:
    for task in ("art", "real_world"):
        (tmp_path / "split" / task).mkdir(parents=True)
        for k, file in ((2, "train_6-shot.txt"), (3, "train_12-shot.txt")):
            lines = [f"{task}/{c}/{n:05d}.jpg {i}" for i, c in enumerate(FEW) for n in range(1, k + 1)]
            (tmp_path / "split" / task / file).write_text("\n".join(lines))
    study = load_study("office_home", [*home, f"dataset.lists={tmp_path / 'split'}"])
    for split, _, tasks in study_draws(study, open_dataset(study.dataset)):
        drawn = tasks["art"]
        k = 2 if split.shots == 6 else 3
        assert (len(drawn.train), len(drawn.validation), len(drawn.test)) == (3 * k, 3 * k, 3 * (20 - k - 4))
        together = [*drawn.train, *drawn.validation, *drawn.test]
        assert len(set(together)) == len(together)


def write_seeded_lists(folder: Path, tests: str | None) -> None:
    """Training lists of seeds 1 to 3 at 6 shots that differ, with a test list for all seeds or none."""
    for task in ("art", "real_world"):
        (folder / task).mkdir(parents=True)
        for seed in (1, 2, 3):
            lines = [f"{task}/{c}/{n + seed:05d}.jpg {i}" for i, c in enumerate(FEW) for n in range(6)]
            (folder / task / f"train_6-shot_seed{seed}.txt").write_text("\n".join(lines))
        if tests is not None:
            lines = [f"{task}/{c}/{n:05d}.jpg {i}" for i, c in enumerate(FEW) for n in range(9, 21)]
            (folder / task / tests).write_text("\n".join(lines))


@pytest.mark.parametrize("seeds", ["[1, 2]", "[{draw: 1, train: 1}, {draw: 3, train: 1}]"])
def test_lists_that_test_on_what_another_seed_trains_on_are_refused(
    home: list[str], seeds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_seeded_lists(Path("split"), tests=None)
    options = [*home, "splits=[{shots: 6}]", f"seeds={seeds}"]
    assert execute(["data", "draws", "import", "office_home", "split", "mine", *options]) == 2
    words = shown(capsys)
    for word in (
        "art/Alarm_Clock/00001.jpg tests by",
        "train_6-shot_seed1.txt",
        "more images of 'art'",
        "paper",
    ):
        assert word in words
    assert not Path("mine").exists()
    listed = [*options, "dataset.lists=split"]
    assert execute(["data", "check", "office_home", *listed]) == 1
    assert "fixed lists that a study refuses" in shown(capsys)
    study = load_study("office_home", listed)
    with pytest.raises(DatasetError, match=r"tests by .*seed"):
        plan_study(study)
    one = load_study("office_home", [*home, "splits=[{shots: 6}]", "seeds=[1]", "dataset.lists=split"])
    check_fixed_lists(one, open_dataset(one.dataset))
    paper = load_study("office_home", [*listed, "protocol=paper", "space=[]"])
    check_fixed_lists(paper, open_dataset(paper.dataset))


def test_lists_that_test_on_what_another_split_trains_on_are_refused(
    home: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("art", "real_world"):
        (Path("split") / task).mkdir(parents=True)
        for percent, first in ((10, 1), (20, 3)):
            lines = [f"{task}/{c}/{first:05d}.jpg {i}" for i, c in enumerate(FEW)]
            (Path("split") / task / f"train_{percent}.txt").write_text("\n".join(lines))
    options = [*home, "dataset.lists=split", "splits=[{percent: 10}, {percent: 20}]"]
    assert execute(["data", "check", "office_home", *options]) == 1
    words = shown(capsys)
    assert "tests by what is left by" in words and "train_20.txt (20% seed 3)" in words
    assert execute(["data", "check", "office_home", *options, "splits=[{percent: 10}]"]) == 0


@pytest.mark.parametrize("splits", ["[{percent: 10}, {percent: 20}]", "[{shots: 6}, {percent: 50}]"])
def test_no_test_image_of_a_study_trains_or_validates_at_another_split_or_seed(
    home: list[str], splits: str
) -> None:
    options = [f"splits={splits}", "space=[]", "grouping={mode: single}"]
    options += ["backbone.model=symbols", "backbone.pretrained=null"]
    options += ["settings={prompt_length: 2, source_rows: 2, source_cols: 4}"]
    plan = plan_study(load_study("office_home", [*home, *options]))
    point = plan.space.replay(plan.first[0])
    configuration = Configuration(method=point.method, settings=point.settings, recipe=point.recipe)
    tested, used = set(), set()
    for split, seed, tasks in study_draws(plan.study, plan.dataset):
        cell = plan.cell(configuration, split, Seeds.both(seed))
        for own, (name, drawn) in zip(draw_tasks(cell, plan.dataset), tasks.items(), strict=True):
            tested |= {(name, index) for index in own.test.tolist()}
            used |= {(name, index) for index in [*own.train.tolist(), *own.validation.tolist()]}
            for part in ("train", "validation", "test"):
                assert getattr(own, part).tolist() == getattr(drawn, part).tolist(), (
                    "cells draw as studies do"
                )
    assert tested and used and not tested & used
    keys = {plan.cell(configuration, split, Seeds.both(1)).largest_percent for split in plan.study.splits}
    assert keys == {None, max(s.percent or 0 for s in plan.study.splits)}


def test_one_test_list_serves_seeds_that_train_on_other_images(home: list[str]) -> None:
    write_seeded_lists(Path("split"), tests="test_6-shot.txt")
    study = load_study("office_home", [*home, "dataset.lists=split", "splits=[{shots: 6}]"])
    dataset = open_dataset(study.dataset)
    check_fixed_lists(study, dataset)
    draws = [tasks["art"] for _, _, tasks in study_draws(study, dataset)]
    assert len({d.train.tobytes() for d in draws}) == 3
    assert len({(d.validation.tobytes(), d.test.tobytes()) for d in draws}) == 1
    assert [len(d.validation) for d in draws] == [12] * 3


def test_draws_are_kept_with_the_study_and_may_not_change(home: list[str], tmp_path: Path) -> None:
    study = load_study("office_home", home)
    dataset = open_dataset(study.dataset)
    store = StudyStore(str(tmp_path / "runs"), study.name)
    keep_draws(store, study, dataset)
    record = store.load_draw("12-shot_seed3")
    assert record is not None and record == draw_records(study, dataset)["12-shot_seed3"]
    assert len(record["tasks"]["art"]["train"]) == 36 and record["tasks"]["art"]["test"]["images"] == 12
    keep_draws(store, study, dataset)
    record["tasks"]["art"]["train"].reverse()
    store.save_draw("12-shot_seed3", record)
    with pytest.raises(StudyError, match="12-shot_seed3 of study 'office_home' is stored with other images"):
        keep_draws(store, study, dataset)
    del record["revisions"]  # as the first version stored them
    store.save_draw("12-shot_seed3", record)
    with pytest.raises(StudyError, match="now a class has one test block for all seeds and splits"):
        check_draws(store, study, dataset)


def test_draws_that_the_first_version_kept_go_on_where_they_are_the_same(
    home: list[str], tmp_path: Path
) -> None:
    """Under ``paper``, and with all parts from lists, records hold what they held."""
    assert execute(["data", "draws", "export", "office_home", "lists", *home]) == 0
    for options in (["protocol=paper", "space=[]"], ["dataset.lists=lists"]):
        study = load_study("office_home", [*home, *options])
        record = draw_records(study, open_dataset(study.dataset))["12-shot_seed3"]
        assert list(record) == ["dataset", "split", "draw_seed", "protocol", "largest_shots", "tasks"]


def test_official_lists_are_kept_to_where_a_study_says_so(tmp_path: Path) -> None:
    write_mini_domainnet(tmp_path, tasks=("real", "sketch"), classes=("ant", "dog"), per_class=20, side=8)
    overrides = [f"dataset.root={tmp_path}", "dataset.tasks=[real, sketch]", "dataset.test_source=official"]
    study = load_study("mini_domainnet", overrides)
    dataset = open_dataset(study.dataset)
    listed = {
        part: {line.rsplit(" ", 1)[0] for line in (tmp_path / "splits_mini" / f"real_{part}.txt").open()}
        for part in ("train", "test")
    }
    ids = dataset.sample_ids("real")
    trained = []
    for _, _, tasks in study_draws(study, dataset):
        drawn = tasks["real"]
        assert {ids[i] for i in drawn.test} == listed["test"]
        assert {ids[i] for i in [*drawn.train, *drawn.validation]} <= listed["train"]
        trained.append(set(drawn.train.tolist()))
    assert trained[0] < trained[3] and len(trained[0]) == 6 and len(trained[3]) == 12
    pooled = open_dataset(DatasetSpec(name="mini_domainnet", root=str(tmp_path), tasks=("real", "sketch")))
    assert pooled.manifest != dataset.manifest
