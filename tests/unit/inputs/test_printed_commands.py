"""What is printed for going on runs as it is printed, wherever the records and the study file are."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

from orchestrator.cli.main import execute
from orchestrator.commands import changed, command
from orchestrator.ledger import Invocation, StudyStore
from orchestrator.notation import read_value, written
from orchestrator.study import load_plan, load_study
from orchestrator.study.identity import differences

if TYPE_CHECKING:
    from tests.unit.inputs.conftest import Ask

STUDIES = {
    # folder and name of the study file, overrides
    "plain": ("x.yaml", ()),
    "other_storage": ("x.yaml", ("storage=records",)),
    "other_name": ("x.yaml", ("name=y",)),
    "spaces": ("my studies/a study.yaml", ("storage='my records/#1'",)),
    "quotes": ("it's.yaml", ("""storage="it's $HOME; rm -rf" """.strip(), "recipe.template=a $(date) {}!")),
    "settings": (
        "x.yaml",
        ("recipe.lr=1e-3", "seeds=[1, 2]", "search.trials=7", "tracking.uri=sqlite:///a b.db"),
    ),
    "number": ("1.yaml", ("storage='12'",)),
}


def study_text(tree: Path) -> str:
    """A study of one configuration on the tree."""
    return (
        f"name: x\ndataset: {{name: folder, root: {tree}}}\nsplits: [{{shots: 1}}]\nspace: []\n"
        "settings: {prompt_length: 2, source_rows: 2, source_cols: 4}\ngrouping: {mode: single}\n"
    )


@pytest.fixture(params=STUDIES)
def printed(
    request: pytest.FixtureRequest, ask: Ask, tree: Path
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """A study that has run, and the commands that its results print, by their name."""
    place, overrides = STUDIES[request.param]
    path = Path(place)
    path.parent.mkdir(exist_ok=True)
    path.write_text(study_text(tree))
    study = load_study(place, overrides)
    store = StudyStore(study.storage, study.name)
    store.save_study(study.to_plain())
    store.save_invocation(
        Invocation(
            command=shlex.join(["orchestrator", "sweep", place, *overrides, "--json"]), outcome="complete"
        )
    )
    storage = () if study.storage == "runs" else ("--storage", study.storage)
    answer = ask("results", study.name, *storage)
    assert answer.code == 0, answer.text
    lines = (line.partition(": ") for line in answer.out.splitlines() if ": orchestrator " in line)
    return (place, *overrides), {name: shlex.split(line)[1:] for name, _, line in lines}


def test_going_on_with_a_sweep_changes_nothing_but_its_trials(
    printed: tuple[tuple[str, ...], dict[str, list[str]]],
) -> None:
    given, commands = printed
    verb, study, *overrides = commands["Go on"]
    assert verb == "sweep"
    before, after = load_study(given[0], given[1:]), load_plan(study, overrides).study
    assert not differences(before, after)
    assert after.search.trials == 2 * before.search.trials
    assert (after.storage, after.tracking, after.name) == (before.storage, before.tracking, before.name)


def test_the_page_that_is_opened_is_the_studys_own(
    printed: tuple[tuple[str, ...], dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, commands = printed
    environments: list[dict[str, str]] = []

    def served(*_: Any, variables: dict[str, str], **__: Any) -> MagicMock:
        environments.append(variables)
        return MagicMock()

    monkeypatch.setattr("orchestrator.pages.served.Served", served)
    assert execute(commands["Open runs"]) == 0
    uri = load_study(given[0], given[1:]).tracking.resolved_uri
    assert uri in environments[0].values()


def test_commands_that_read_records_find_those_of_the_study(
    printed: tuple[tuple[str, ...], dict[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    given, _ = printed
    study = load_study(given[0], given[1:])
    for verb in ("status", "results"):
        line = command(verb, study.name, "--json", storage=StudyStore(study.storage, study.name).storage.root)
        assert execute(shlex.split(line)[1:]) == 0
        assert f'"study": "{study.name}"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ("orchestrator sweep demo", "orchestrator sweep demo search.trials=9"),
        ("orchestrator sweep demo search.trials=4 a=1", "orchestrator sweep demo a=1 search.trials=9"),
        ("orchestrator sweep demo --retry-failed --json", "orchestrator sweep demo search.trials=9"),
        ("orchestrator sweep demo 'a=b c'", "orchestrator sweep demo 'a=b c' search.trials=9"),
        ("orchestrator sweep gone.yaml", None),
        ("orchestrator sweep demo storage=s3://***@b", None),
        ("orchestrator confirm demo --seeds 4", None),
        ("orchestrator.run('x')", None),
        ("orchestrator sweep 'demo", None),
        ("", None),
    ],
)
def test_a_recorded_command_is_changed_only_where_it_can_be_run(recorded: str, expected: str | None) -> None:
    assert changed(recorded, "search.trials=9") == expected


@pytest.mark.parametrize("width", ["60", "100"])
def test_a_long_command_is_one_line_that_can_be_copied(
    width: str, ask: Ask, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x.yaml").write_text(study_text(tree))
    monkeypatch.setenv("COLUMNS", width)
    template = f"recipe.template={'a plain photo of ' * 4}{{}}"
    out = ask("plan", "x.yaml", template, "seeds=[4]").out
    (line,) = (line for line in out.splitlines() if "orchestrator sweep" in line)
    assert shlex.split(line.partition(":  ")[2]) == [
        "orchestrator",
        "sweep",
        "x.yaml",
        template,
        "seeds=[4]",
    ]


@pytest.mark.parametrize(
    "folder", ["lists", "123", "a #b", "1e3", "it's", "yes", "010", "a: b", "[x", "~x", "é ü"]
)
def test_lists_are_imported_from_and_shown_at_any_path(folder: str, ask: Ask, tree: Path) -> None:
    data = (f"dataset.root={tree}", "splits=[{shots: 1}]", "seeds=[1]")
    exported = ask("data", "draws", "export", "folder", folder, *data)
    assert exported.code == 0, exported.text
    use = shlex.split(exported.out.partition("Use them with:")[2])
    assert ask("data", "draws", "import", "folder", folder, "again", *data).code == 0
    assert ask("data", "draws", "export", "folder", "once more", *data, *use).code == 0


@pytest.mark.parametrize(
    "text", ["a", "", " ", "010", "a #b", "null", "~", "x: y", "it's", '"', "é", "-", "1", "\\"]
)
def test_a_text_is_written_so_that_it_is_read_back(text: str) -> None:
    assert read_value(written(text), "") == text
