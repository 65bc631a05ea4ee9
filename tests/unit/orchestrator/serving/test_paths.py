"""Artefacts get names, tokens come from variables, and what is missing is said before anything is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmap_model.errors import CheckpointError, ConfigurationError
from mmap_model.testing.artefacts import random_artefact
from orchestrator.cli import serve as command
from orchestrator.cli.main import execute
from orchestrator.serving.paths import fetched_paths, paths_by_name
from orchestrator.serving.process import address, bind
from orchestrator.serving.token import read_token


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_artefact(tmp_path_factory.mktemp("made") / "winner", method="zero_shot")


def test_an_artefact_is_called_as_its_folder_or_as_it_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with fetched_paths([str(folder), f"other={folder}", f"third=file://{folder}"]) as places:
        assert places == {"winner": folder, "other": folder, "third": folder}
    assert paths_by_name(["s3://bucket/a=b/winner", "x=s3://bucket/y?region=z"]) == {
        "winner": "s3://bucket/a=b/winner",
        "x": "s3://bucket/y?region=z",
    }
    monkeypatch.chdir(folder)
    assert paths_by_name(["."]) == {"winner": "."}
    (tmp_path / "a=b").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert paths_by_name(["a=b"]) == {"winner": "a=b"}
    with pytest.raises(ConfigurationError, match="two artefacts"):
        paths_by_name([str(folder), str(folder)])
    with pytest.raises(ConfigurationError, match="no name"):
        paths_by_name([f"={folder}"])
    with (
        pytest.raises(CheckpointError, match=r"no artefact\.json"),
        fetched_paths([str(folder), f"x={tmp_path}"]),
    ):
        pass


def test_a_token_comes_from_a_variable() -> None:
    assert read_token(None, {}) is None
    assert read_token("T", {"T": " 0123456789abcdef\n"}) == "0123456789abcdef"
    for value in ("", "short", "0123456789 abcdef", "0123456789abcdefü"):
        with pytest.raises(ConfigurationError, match="T") as error:
            read_token("T", {"T": value})
        assert not value or value not in str(error.value)


def test_a_taken_or_foreign_address_is_an_error_that_names_it() -> None:
    bound = bind("127.0.0.1", 0)
    bound.listen()
    port = bound.getsockname()[1]
    assert address(bound) == f"http://127.0.0.1:{port}"
    for host, taken in (("127.0.0.1", port), ("192.0.2.1", 0), ("no.such.host.invalid", 0)):
        with pytest.raises(ConfigurationError, match=f"{host}:{taken}"):
            bind(host, taken)
    bound.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve nothing", "artefact.json"),
        ("serve {folder} --token-from NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE"),
        ("serve {folder} --max-queue 3", "queue"),
        ("serve {folder} --precision fp8", "fp8"),
        ("serve {folder} --host 192.0.2.1", "192.0.2.1"),
        ("serve {folder} --port 0 --device cuda:99", "cuda:99"),
        ("serve", "ARTEFACT"),
    ],
)
def test_bad_input_is_2(line: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(line.format(folder=folder).split()) == 2
    assert said in capsys.readouterr().err.replace("\n", "")


def test_a_missing_library_is_2_with_the_command_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "python_multipart" else name)
    assert execute(["serve", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "python-multipart" in said and "uv sync --extra serve" in said


def test_the_command_imports_nothing_heavy_before_its_arguments_are_checked() -> None:
    script = (
        "import sys, json; from orchestrator.cli.main import execute; "
        "assert execute(['serve', 'nothing']) == 2; print(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert not {"torch", "ray", "mlflow", "open_clip"} & set(modules)
