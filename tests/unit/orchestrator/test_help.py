"""What ``--help`` shows: a screen of 80 columns for each command, grouped, in plain words."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from orchestrator.cli import tree
from orchestrator.cli.main import execute

COMMANDS = tree.commands(tree.root())
SCREEN = 56
"""Lines of a terminal at its usual size on a laptop."""


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_every_command_fits_a_screen(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert execute([*path.split()[1:], "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN and max(map(len, lines)) <= 80
    assert not any("<bool>" in line or "range" in line for line in lines)


def test_every_command_says_in_a_sentence_what_it_does() -> None:
    for path, command in COMMANDS.items():
        assert command.help and command.help.split("\n\n")[0].endswith("."), path


def test_commands_are_grouped_in_the_order_of_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"\n {panel}") for panel in tree.COMMANDS]
    assert places == sorted(places)
    assert "Exit codes: 0 done" in shown


@pytest.mark.parametrize("columns", ["80", "60"])
def test_the_overview_fits_the_smallest_usual_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert execute(["-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert columns != "80" or len(lines) <= 40
    assert all(f" {name} " in "\n".join(lines) for name in tree.root().commands)


@pytest.mark.parametrize("named", ["NO_COLOR", "TERM"])
def test_terminals_that_have_no_colours_get_none(named: str) -> None:
    controller, terminal = os.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    environment |= {"NO_COLOR": "1"} if named == "NO_COLOR" else {"TERM": "dumb"}
    command = [sys.executable, "-m", "orchestrator", "plan", "nothing"]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        said = b""
        while chunk := _read(controller):
            said += chunk
    os.close(controller)
    assert process.returncode == 2 and b"no study is named" in said
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]", said), said


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("swep", "sweep"), ("data chek", "check"), ("sweep demo --retry-faild", "--retry-failed")],
)
def test_a_slip_is_answered_with_the_nearest(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(typed.split()) == 2
    said = capsys.readouterr().err
    assert "id you mean" in said and meant in said


def test_a_shell_can_complete_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ORCHESTRATOR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "orchestrator conf")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit) as ended:
        execute([])
    assert ended.value.code == 0 and capsys.readouterr().out.split() == ["confirm"]
