from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mmap_model.cells import Configuration
from mmap_model.configuration import Seeds, Split
from mmap_model.errors import InputError
from mmap_model.revisions import revisions_of
from orchestrator.study import (
    Study,
    StudyError,
    check_rerun,
    differences,
    execution,
    load_plan,
    load_study,
    packaged_studies,
    plan_study,
    study_from_plain,
)
from orchestrator.study.schema import study_schema
from search_spaces import space_names

MINIMAL = """\
name: tiny
space:
  - name: mmap_shape
    prompt_length: [2, 6]
  - name: learning_rate
search:
  trials: 4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(MINIMAL)
    return path


def refused(file: Path, *overrides: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_plan(str(file), overrides)
    return caught.value


def test_every_packaged_study_is_valid() -> None:
    assert "demo" in packaged_studies()
    for name in packaged_studies():
        study = load_study(name)
        assert study.name == name
        assert "measured" in study.description.lower()


def test_demo_fits_its_backbone_data_and_machine() -> None:
    plan = plan_study(load_study("demo", ["slots.count=1"]))
    assert plan.architecture.model == "symbols"
    assert len(plan.data.tasks) == 4
    assert all(plan.space.replay(params) for params in plan.first)
    assert plan.cells_per_trial == 3


def test_defaults_are_the_papers_three_seeds_and_the_search_protocol(file: Path) -> None:
    study = load_study(str(file))
    assert study.seeds == (Seeds.both(1), Seeds.both(2), Seeds.both(3))
    assert study.protocol == "search"
    assert study.finalists == 3
    assert study.grouping is not None and study.grouping.objective == "tag_mean"


def test_resolved_form_reads_back_equal(file: Path) -> None:
    study = load_study(str(file), ["seeds=[1, {draw: 1, train: 2}]", "splits=[{shots: 3}, {percent: 10}]"])
    plain = json.loads(json.dumps(study.to_plain()))
    assert study_from_plain(plain, "study.json") == study
    assert study.splits == (Split(shots=3), Split(percent=10.0))
    assert study.seeds[1] == Seeds(draw=1, train=2)


@pytest.mark.parametrize(
    ("override", "where", "words"),
    [
        # unknown names and keys, with the nearest known one
        ("serch={trials: 3}", "serch", ["unknown key", "'search'"]),
        ("search.trails=3", "search.trails", ["unknown key", "'trials'"]),
        ("recipe.learning_rate=3", "recipe.learning_rate", ["unknown key", "known: augment"]),
        ("recipe.epoch=3", "recipe.epoch", ["unknown key", "'epochs'"]),
        ("grouping.probe.recipe.epoch=3", "grouping.probe.recipe.epoch", ["'epochs'"]),
        ("dataset.name=symbol", "dataset.name", ["'symbol'", "'symbols'"]),
        ("dataset.tasks=[clipart, foto]", "dataset.tasks", ["'foto'", "'photo'"]),
        ("backbone={model: ViT-B-17, pretrained: openai}", "backbone.model", ["'ViT-B-17'", "ViT-B-16"]),
        ("method=mmmap", "method", ["'mmmap'", "'mmap'"]),
        ("settings.prompt_len=4", "settings.prompt_len", ["unknown key", "'prompt_length'"]),
        ("space.0.name=mmap_shap", "space.0.name", ["'mmap_shap'", "'mmap_shape'"]),
        ("space.0.rows=[4]", "space.0.rows", ["unknown key", "source_rows"]),
        # values of the wrong type or range
        ("search.trials=many", "search.trials", ["'many'", "whole number"]),
        ("search.trials=0", "search.trials", ["0", "at least 1"]),
        ("search.sampler=cmaess", "search.sampler", ["'cmaess'", "'cmaes'"]),
        (
            "search.sampler_options={startup: 3}",
            "search.sampler_options.startup",
            ["tpe", "n_startup_trials"],
        ),
        (
            "search.sampler_options={n_startup_trials: x}",
            "search.sampler_options.n_startup_trials",
            ["'x'", "0"],
        ),
        ("search={sampler: random, sampler_options: {a: 1}}", "search.sampler_options.a", ["remove it"]),
        ("search.objectives=[accuracy, params]", "search.objectives", ["'params'", "'parameters'"]),
        ("search.objectives=[accuracy, -accuracy]", "search.objectives", ["twice"]),
        ("search.objectives=[]", "search.objectives", ["no objective", "[accuracy, -parameters]"]),
        ("search.objectives=[-nll]", "search.objectives", ["-nll", "[accuracy, -nll]"]),
        ("search.constraints=[parameters<20]", "search.constraints.0", ["parameters<20", "NAME<=NUMBER"]),
        ("search.constraints=['ece<=1', 'size<=3']", "search.constraints.1", ["size<=3", "known"]),
        ("recipe.batch_size=0", "recipe.batch_size", ["0", "1 or more"]),
        ("recipe.augment=maybe", "recipe.augment", ["'maybe'", "bool"]),
        ("precision=fp16", "precision", ["'fp16'", "'fp32', 'bf16' or 'fp64'"]),
        ("name=my study", "name", ["'my study'", "letters"]),
        ("finalists=-1", "finalists", ["-1", "at least 0"]),
        ("slots.cell_timeout_s=0", "slots.cell_timeout_s", ["0", "more than 0"]),
        ("slots.count=x", "slots.count", ["'x'", "'auto'", "whole number"]),
        ("space=mmap_shape", "space", ["'mmap_shape'", "list"]),
        # splits and seeds
        ("splits=[{shot: 3}]", "splits.0.shot", ["unknown key", "'shots'"]),
        ("splits=[{shots: 0}]", "splits.0.shots", ["0", "1 or more"]),
        ("splits=[{shots: 3, percent: 10}]", "splits.0", ["shots or percent"]),
        ("splits=[{shots: 3}, {shots: 3}]", "splits", ["twice"]),
        ("splits=[]", "splits", ["no split"]),
        ("splits=[{shots: 40}]", "splits", ["40 shots", "30 images"]),
        ("largest_shots=3", "largest_shots", ["3", "6 shots", "6 or more"]),
        ("seeds=[1, 1]", "seeds", ["seed 1", "twice"]),
        ("seeds=[one]", "seeds.0", ["'one'", "{draw: 1, train: 2}"]),
        ("seeds=[-1]", "seeds.0", ["-1", "0 or more"]),
        ("seeds=[]", "seeds", ["no seed"]),
        ("seeds=3-1", "seeds", ["falls", "1-3"]),
        ("seeds='1,x'", "seeds", ["'x'", "1,2,3"]),
        ("splits=0", "splits.0.shots", ["0", "1 or more"]),
        # rules that join keys
        ("recipe.lr=0.1", "recipe.lr", ["fixed value", "space.1 (learning_rate)"]),
        ("recipe.epochs=1", "recipe.warmup_epochs", ["1", "recipe.epochs=1"]),
        ("recipe.warmup_epochs=7", "recipe.warmup_epochs", ["7", "0 to 4", "recipe.epochs=5"]),
        ("grouping.snapshot_every=5", "grouping.snapshot_every", ["5", "probe.snapshot_every=2"]),
        (
            "splits=[{shots: 1}]\x00grouping.probe.recipe.epochs=2\x00grouping.snapshot_every=20",
            "grouping.snapshot_every",
            ["every 20 steps", "1-shot", "8 steps", "multiple of 2 up to 8", "probe.recipe.epochs"],
        ),
        ("grouping.groups=3", "grouping.groups", ["4 tasks", "3 groups", "1 to 2"]),
        ("grouping={mode: fixed, partition: [[0, 1], [2]]}", "grouping.partition", ["4 tasks", "0 to 3"]),
        ("grouping.probe.source_cols=64", "grouping.probe.source_cols", ["64", "32", "96", "128"]),
        ("search.per_split=true", "search.per_split", ["one study per split"]),
        ("protocol=paper", "protocol", ["no validation images", "space: []"]),
        ("protocol=clap", "protocol", ["clap has no validation images", "space: []"]),
        (
            "search={scheduler: asha}\x00space.1={name: choice, key: recipe.epochs, choices: [3, 5]}",
            "search.scheduler",
            ["recipe.epochs", "scheduler: none"],
        ),
        ("compute.evaluate=never", "compute.evaluate", ["'never'", "every, rungs, last"]),
        ("compute.rungs=[2]", "compute.rungs", ["evaluate: rungs"]),
        ("compute={evaluate: rungs, rungs: [0]}", "compute.rungs", ["from 1"]),
        (
            "search={scheduler: asha}\x00compute.evaluate=last",
            "compute.evaluate",
            ["asha", "before their last epoch", "rungs"],
        ),
        ("search.sampler=grid", "search.sampler", ["lr is continuous", "choices"]),
        ("search.sampler=cmaes", "search.sampler", ["prompt_length", "source_cols", "lists", "tpe"]),
        ("search.sampler=gp", "search.sampler", ["source_rows", "depend on others", "tpe"]),
        ("search.sampler=nsga2", "search.sampler", ["source_rows", "at random", "tpe"]),
        (
            "search={objectives: [accuracy, -parameters], scheduler: asha}",
            "search.scheduler",
            ["asha", "2 objectives", "none"],
        ),
        (
            "space=[learning_rate]\x00settings={prompt_length: 2, source_rows: 2, source_cols: 4}\x00"
            "search={objectives: [accuracy, nll], sampler: cmaes}",
            "search.sampler",
            ["cmaes", "one objective", "nsga2"],
        ),
        (
            "space=[]\x00settings={prompt_length: 2, source_rows: 2, source_cols: 4}\x00protocol=paper\x00"
            "search.constraints=['parameters<=20000']",
            "protocol",
            ["validation", "search.constraints"],
        ),
        ("search.max_params=10", "search.max_params", ["10", "1056"]),
        (
            "search.enqueue=[{prompt_length: 6, source_rows: 4}]",
            "search.enqueue.0.source_rows",
            ["4", "b=6", "1, 2, 3, 6"],
        ),
        ("search.enqueue=[{prompt_length: 4}]", "search.enqueue.0.prompt_length", ["4", "2, 6"]),
        (
            "space=[]\x00settings={prompt_length: 6, source_rows: 4, source_cols: 32}",
            "settings.source_rows",
            ["4", "6", "1, 2, 3, 6"],
        ),
        ("space=[]", "settings.source_cols", ["128", "32"]),
        (
            "method=zero_shot\x00space=[]\x00grouping={mode: single}",
            "grouping",
            ["'zero_shot'", "remove grouping"],
        ),
        ("method=zero_shot", "space.0", ["'settings.prompt_length'", "'zero_shot'"]),
    ],
)
def test_bad_input_names_file_key_value_and_fix(
    file: Path, override: str, where: str, words: list[str]
) -> None:
    error = refused(file, *override.split("\x00"))
    assert error.where is not None
    assert error.where.endswith(f": {where}"), error.where
    assert "tiny.yaml" in error.where or "override" in error.where
    assert all(word in f"{error.problem}\n{error.fix}" for word in words), str(error)
    assert error.fix


def test_errors_in_the_file_name_their_line(file: Path) -> None:
    file.write_text(MINIMAL.replace("prompt_length: [2, 6]", "prompt_length: [2, x]"))
    assert refused(file).where == "tiny.yaml:4: space.0.prompt_length"


def test_missing_name(file: Path) -> None:
    file.write_text(MINIMAL.replace("name: tiny\n", ""))
    error = refused(file)
    assert (error.problem, error.fix) == ("missing key", "add name: …")


@pytest.mark.parametrize(
    ("name", "words"),
    [("dmo", ["'dmo'", "'demo'"]), ("nowhere/x.yaml", ["nowhere/x.yaml", "does not exist"])],
)
def test_unknown_studies(name: str, words: list[str]) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(name)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "override",
    [
        "search.trials=9",
        "slots.count=1",
        "finalists=0",
        "storage=elsewhere",
        "tracking.uri=http://x",
        "description=other",
        "largest_shots=6",
        "backbone.activation=gelu",
    ],
)
def test_a_rerun_may_change_how_far_and_where(file: Path, override: str) -> None:
    check_rerun(load_study(str(file)), load_study(str(file), [override]))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("space.0.prompt_length=[2]", "space"),
        ("seeds=[1, 2]", "seeds"),
        ("splits=[{shots: 3}]", "splits"),
        ("recipe.epochs=6", "recipe.epochs"),
        ("dataset.tasks=[clipart, photo]", "dataset.tasks"),
        ("precision=bf16", "precision"),
        ("search.sampler=random", "search.sampler"),
        ("search.max_params=9000", "search.max_params"),
        ("largest_shots=12", "largest_shots"),
    ],
)
def test_a_rerun_may_not_change_what_is_trained(file: Path, override: str, key: str) -> None:
    stored, new = load_study(str(file)), load_study(str(file), [override])
    assert key in [k for k, _, _ in differences(stored, new)]
    with pytest.raises(StudyError) as caught:
        check_rerun(stored, new)
    assert caught.value.where == key
    assert "name=tiny-2" in str(caught.value)


@pytest.mark.parametrize(
    ("scheduler", "scored"),
    [
        ("none", [20]),
        ("{name: median, grace_period: 17}", [17, 18, 19, 20]),
        ("ray.tune.schedulers:FIFOScheduler", list(range(1, 21))),
    ],
)
def test_images_are_scored_where_a_scheduler_may_stop_trials(
    file: Path, scheduler: str, scored: list[int]
) -> None:
    study = load_study(
        str(file), [f"search.scheduler={scheduler}", "recipe.epochs=20", "compute.evaluate=rungs"]
    )
    resolved = execution(study)
    assert [epoch for epoch in range(1, 21) if resolved.evaluates(epoch, 20)] == scored
    chosen = load_study(str(file), ["compute={evaluate: rungs, rungs: [4, 5]}"])
    assert execution(chosen).rungs == (4, 5)


def test_asha_of_earlier_studies_scores_where_ray_tune_looks(file: Path) -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    study = load_study(
        str(file),
        [
            "search={scheduler: {name: asha, grace_period: 2}, reduction_factor: 3, scheduler_version: 1}",
            "recipe.epochs=40",
            "compute.evaluate=rungs",
        ],
    )
    theirs = AsyncHyperBandScheduler(max_t=40, grace_period=2, reduction_factor=3)
    milestones = sorted(rung for bracket in theirs._brackets for rung, _ in bracket._rungs)
    resolved = execution(study)
    assert [epoch for epoch in range(1, 40) if resolved.evaluates(epoch, 40)] == milestones


def test_a_rerun_may_not_ask_for_fewer_trials(file: Path) -> None:
    with pytest.raises(StudyError, match=r"4 trials.*3"):
        check_rerun(load_study(str(file)), load_study(str(file), ["search.trials=3"]))


def test_work_items_of_a_plan_carry_what_decides_the_keys(file: Path) -> None:
    plan = load_plan(str(file), ["splits=[{shots: 1}, {shots: 3}]", "seeds=[5]"])
    point = plan.space.replay(plan.first[0])
    item = plan.work_item(point, item_id="a", trial=2, fence=7)
    assert item.splits == ({"shots": 1, "percent": None}, {"shots": 3, "percent": None})
    assert (item.seeds, item.largest_shots, item.trial, item.fence) == (({"draw": 5, "train": 5},), 3, 2, 7)
    assert plan.study.label_budget() == {"1-shot": (1, 1), "3-shot": (3, 3)}


SMALL = ("space=[]", "settings={prompt_length: 2, source_rows: 2, source_cols: 4}", "grouping={mode: single}")


def test_cells_of_large_images_are_revised_and_items_say_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone sees 32 pixels: from 128 on, images were shrunk before they were cropped."""
    monkeypatch.setenv("MMAP_CACHE_DIR", str(tmp_path / "cache"))
    for width in (120, 128):
        for task, name, number in itertools.product(("ink", "oil"), ("bell", "key"), range(8)):
            path = tmp_path / str(width) / task / name / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (width if (task, number) == ("oil", 7) else 20, 20), number).save(path)
        images = ["dataset.name=folder", f"dataset.root={tmp_path / str(width)}", "splits=[{shots: 2}]"]
        plan = load_plan(str(file), [*images, "protocol=paper", *SMALL])
        point = plan.space.replay(plan.first[0])
        configuration = Configuration(method=point.method, settings=point.settings, recipe=point.recipe)
        cell = plan.cell(configuration, plan.study.splits[0], plan.study.seeds[0])
        assert revisions_of(cell) == ({"crops": 2} if width == 128 else {})
        assert plan.work_item(point, item_id="a").large_images == (width == 128)


def test_grid_goes_through_every_point_once(file: Path) -> None:
    plan = load_plan(str(file), ["space.1.choices=[0.01, 0.1]", "search={sampler: grid, trials: 999}"])
    assert plan.trials == plan.size.points == len(list(plan.space.points())) == (2 + 4) * 6 * 2


def test_schema_knows_every_key_and_space() -> None:
    import jsonschema
    import yaml

    schema = study_schema()
    assert set(schema["properties"]) == set(Study.model_fields)
    text = json.dumps(schema)
    assert all(f'"const": "{name}"' in text for name in space_names())
    validate = jsonschema.Draft202012Validator(schema)
    assert not list(validate.iter_errors(yaml.safe_load(MINIMAL)))
    assert list(validate.iter_errors({"name": "x", "serch": {}}))
    assert list(validate.iter_errors({"name": "x", "space": [{"name": "mmap_shape", "rows": [4]}]}))


def test_planning_imports_neither_torch_nor_ray(file: Path) -> None:
    code = (
        "import sys; from orchestrator.study import load_plan; load_plan(sys.argv[1]);"
        "bad = {'torch', 'ray', 'mlflow', 'open_clip'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)


def test_office_home_and_mini_domainnet_are_planned_as_the_paper_trains_them(tmp_path: Path) -> None:
    from mmap_model.data.generated import write_mini_domainnet, write_office_home

    write_office_home(tmp_path / "home", per_class=18, side=8)
    write_mini_domainnet(tmp_path / "net", classes=("ant", "cat", "dog"), per_class=12, side=8)
    for name, root, shots, batch in (
        ("office_home", "home", [6, 12], 16),
        ("mini_domainnet", "net", [3, 6], 4),
    ):
        plan = load_plan(name, [f"dataset.root={tmp_path / root}"])
        study = plan.study
        assert [split.shots for split in study.splits] == shots and len(study.seeds) == 3
        assert (study.recipe.batch_size, study.recipe.lr, study.recipe.epochs) == (batch, 0.0035, 5)
        first = plan.space.replay(plan.first[0])
        settings = first.settings
        assert (settings.prompt_length, settings.source_rows, settings.source_cols) == (14, 14, 128)
        assert first.recipe.lr == pytest.approx(0.0035)
        assert len(plan.data.tasks) == 4 and plan.cells_per_trial == 6
        fixed = load_plan(name, [f"dataset.root={tmp_path / root}", "space=[]", "protocol=paper"])
        assert fixed.space.parameter_range() == (129_744, 129_744)


@pytest.mark.parametrize("name", ["office_home", "mini_domainnet"])
def test_one_error_says_what_is_missing_of_data_and_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_plan(name, ["backbone.pretrained=weights/ViT-B-16.pt"])
    said = str(caught.value)
    assert f"{name}.yaml" in said
    assert "data, dataset.root: data/" in said and "is not a folder" in said
    assert "weights, backbone.pretrained: weights/ViT-B-16.pt does not exist" in said
    assert "<root>/" in said and "give the path of a checkpoint file" in said
    assert len(said.splitlines()) < 15, "one screen"


def test_weights_of_a_tag_are_looked_for_in_the_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from mmap_model.backbone_identity import require_weights
    from mmap_model.backbone_spec import BackboneSpec

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = BackboneSpec("ViT-B-16-quickgelu", "openai")
    with pytest.raises(InputError, match="'openai' of 'ViT-B-16-quickgelu' are not on this machine"):
        require_weights(spec)
    snapshot = tmp_path / "hub" / "models--timm--vit_base_patch16_clip_224.openai" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").write_bytes(b"")
    require_weights(spec)


def test_without_a_connection_missing_weights_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from mmap_model.backbone_identity import fingerprint_of
    from mmap_model.backbone_spec import BackboneSpec

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("mmap_model.backbone_identity._computed", lambda spec: pytest.fail("fetched"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="are not on this machine"):
        fingerprint_of(BackboneSpec("ViT-B-16-quickgelu", "openai"))


def test_a_probe_too_short_for_the_default_interval_is_averaged_over_its_own(file: Path) -> None:
    short = ("splits=[{shots: 1}]", "grouping.probe.recipe.epochs=2")
    plan = load_plan(str(file), short)
    assert plan.study.grouping is not None and plan.study.grouping.snapshot_every == 2
    assert study_from_plain(plan.study.to_plain(), "study.json") == plan.study
    longer = load_plan(str(file), ["splits=[{shots: 16}]"])
    assert longer.study.grouping is not None and longer.study.grouping.snapshot_every == 10


@pytest.mark.parametrize("written", ["seeds=4,5,6", "seeds=4-6", "seeds='4 5 6'", "seeds=[4, 5, 6]"])
def test_seeds_are_written_in_any_of_the_ways(file: Path, written: str) -> None:
    assert load_study(str(file), [written]).seeds == tuple(Seeds.both(n) for n in (4, 5, 6))


@pytest.mark.parametrize("written", ["splits=1,2", "splits=1-2", "splits=[1, 2]", "splits=[1, {shots: 2}]"])
def test_shots_are_written_in_any_of_the_ways(file: Path, written: str) -> None:
    study = load_study(str(file), [written])
    assert study.splits == (Split(shots=1), Split(shots=2))
    assert study.to_plain()["splits"] == [{"shots": 1, "percent": None}, {"shots": 2, "percent": None}]


def test_weights_without_their_model_are_refused_with_the_key_that_is_missing(file: Path) -> None:
    error = refused(file, "backbone={pretrained: weights/ViT-B-16.pt}")
    assert "backbone.pretrained" in str(error.where) and "without the model" in error.problem
    assert error.fix is not None and "add backbone.model" in error.fix
