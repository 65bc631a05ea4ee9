from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from mmap_model.architecture import read_architecture
from mmap_model.backbone_spec import BackboneSpec, counted_parameters
from mmap_model.methods import method_names
from orchestrator.cli.main import execute
from orchestrator.study import load_plan

PAPER = [
    *("params", "--model", "ViT-B-16-quickgelu", "--method", "mmap", "--tasks", "4", "--groups", "2"),
    *("--prompt-length", "14", "--source-rows", "14", "--source-cols", "128", "--json"),
]


def printed_without_torch(arguments: list[str]) -> Any:
    code = (
        "import sys; from orchestrator.cli.main import execute; assert execute(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'open_clip', 'pandas'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_the_papers_count_is_printed_without_importing_torch() -> None:
    found = printed_without_torch(PAPER)
    assert found["parameters"] == 129_744
    assert found["backbone_parameters"] == 149_620_737
    assert found["by_groups"] == {"1": 108_120, "2": 129_744, "3": 151_368, "4": 172_992}


def test_all_methods_stand_beside_the_papers_row_without_importing_torch() -> None:
    rows = printed_without_torch(["params", "--model", "ViT-B-16-quickgelu", "--tasks", "4", "--json"])
    found = {(row["method"], row["regime"]): (row["parameters"], row["paper"]) for row in rows}
    assert len(found) == len(rows)
    assert {row["method"] for row in rows} == set(method_names())
    exact = {
        ("full_ft", "single"): 598_482_948,
        ("full_ft", "multi"): 149_620_737,
        ("bitfit", "multi"): 171_008,
        ("clip_adapter", "multi"): 526_848,
        ("coop", "single"): 4 * 8_192,
        ("coop", "multi"): 8_192,
        ("vpt", "single"): 4 * 165_888,
        ("vpt", "multi"): 165_888,
        ("maple", "single"): 4 * 4_776_960,
        ("maple", "multi"): 4_776_960,
        ("mlp", "multi"): 3_959_808,
        ("mmap", "multi"): 129_744,
    }
    assert exact.items() <= {case: count for case, (count, _) in found.items()}.items()
    assert found["full_ft", "multi"] == (149_620_737, "149.62M")
    assert found["full_ft", "single"] == (598_482_948, "598.48M")
    assert found["mlp", "multi"] == (3_959_808, "3.96M")
    assert found["joint", "multi"] == (1_290_240, None)
    assert found["zero_shot", None] == (0, None)


def test_numbers_for_every_class_and_labelled_image_are_counted_in_every_regime() -> None:
    given = ["--model", "ViT-B-16-quickgelu", "--tasks", "4", "--classes", "65", "--shots", "6"]
    rows = printed_without_torch(["params", *given, "--json"])
    found = {(row["method"], row["regime"]): row["parameters"] for row in rows}
    assert None not in found.values()
    of_one_task = {
        "clip_lora": 184_320, "zs_lp": 33_280, "task_res": 33_280, "ivlp": 30_720, "promptsrc": 46_080,
    }  # fmt: skip
    for method, count in of_one_task.items():
        assert (found[method, "single"], found[method, "multi"]) == (4 * count, count), method
        if method != "promptsrc":
            assert found[method, "grouped"] == 6 * count, "two groups and four tasks"
    assert found["clap", "single"] == 4 * 33_280 and found["clap", "multi"] == 33_280
    assert found["two_stage", "single"] == 4 * 94_720 and found["two_stage", "multi"] == 61_440 + 4 * 33_280
    assert found["tip_adapter_f", "single"] == found["tip_adapter_f", "multi"] == 4 * 199_680
    assert found["tip_adapter", "single"] == 0
    assert found["vpt", "grouped"] == 6 * 165_888 and found["clip_adapter", "grouped"] == 6 * 131_712


def test_what_is_not_given_is_asked_for_by_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--method", "zs_lp"]) == 2
    assert "--classes" in capsys.readouterr().err
    assert execute(["params", "--method", "tip_adapter_f", "--classes", "65"]) == 2
    assert "--shots" in capsys.readouterr().err
    assert execute(["params", "--method", "ivlp", "--classes", "65", "--regime", "grouped", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == 65 and found["by_groups"].keys() == {"1", "2", "3", "4"}


def test_what_the_paper_printed_is_not_said_of_other_backbones(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--model", "ViT-B-32", "--json"]) == 0
    assert not any("paper" in row for row in json.loads(capsys.readouterr().out))


def test_a_shape_that_the_backbone_does_not_take_gives_way_to_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["params"]) == 0
    out = " ".join(capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ").split())
    assert "maple single" in out and "mmap multi 10 920" in out
    assert "mmap: source_cols=32, the nearest that fits symbols" in out
    assert execute(["params", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    fitted = {row["method"]: (row["parameters"], row["fitted"]) for row in rows if row["fitted"]}
    assert fitted == {
        "mmap": (10_920, {"source_cols": 32}),
        "promptsrc": (3_584, {"anchors": "a photo of a {}.", "depth": 4}),
    }
    assert execute(["params", "--method", "mmap", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 10_920
    first = load_plan("demo", ["space=[{name: mmap_shape}]"]).first[0]
    assert {first[name] for name in first if name.startswith("source_cols")} == {32}


def test_shares_of_a_reduced_clip_leave_its_unused_vocabulary_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert execute(["params", "--json"]) == 0
    found = {(row["method"], row["regime"]): row for row in json.loads(capsys.readouterr().out)}
    whole = counted_parameters(BackboneSpec())
    assert found["full_ft", "multi"]["parameters"] == whole < read_architecture("symbols").parameters
    assert found["full_ft", "multi"]["share"] == 1 and found["full_ft", "single"]["share"] == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt-length", "6", "--source-rows", "4"], ["--source-rows", "4", "6", "1, 2, 3, 6"]),
        (["--source-cols=5"], ["--source-cols", "5", "32"]),
        (["--prompt-length", "four"], ["--prompt-length", "'four'", "int"]),
        (["--prompt-lenght", "4"], ["--prompt-lenght", "--prompt-length"]),
        (["--prompt-length"], ["--prompt-length", "no value"]),
        (["--source-cols", "32", "--groups", "5"], ["--groups", "5 groups", "1 to 4"]),
        (["--method", "mmmap"], ["--method", "'mmmap'", "'mmap'"]),
        (["--model", "ViT-B-17"], ["--model", "'ViT-B-17'", "ViT-B-16"]),
        (["--tasks", "none"], ["--tasks", "valid integer"]),
    ],
)
def test_bad_options_exit_with_2_and_one_panel(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["params", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = " ".join(captured.err.replace("│", " ").split())
    assert all(word in shown for word in words), shown
    assert "Traceback" not in shown


def test_the_table_marks_the_number_of_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--source-cols", "32"]) == 0
    out = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
    assert "10 920" in out and "groups" in out


def test_a_method_that_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["params", "--method", "zero_shot", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["parameters"], found["groups"]) == (0, None)
