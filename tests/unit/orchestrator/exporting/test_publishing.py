"""Artefacts at places that are no folder of this machine."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from mmap_model.errors import CheckpointError
from orchestrator.exporting.publishing import below, publish, working_folder
from orchestrator.predicting.refs import located, split_uri


@pytest.fixture
def place() -> str:
    return f"fsspec+memory://artefacts/{secrets.token_hex(4)}"


def make(folder: Path) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_bytes(b"w")
    (folder / "artefact.json").write_bytes(b"{}")


def test_what_is_made_is_sent_and_found_again(place: str) -> None:
    with working_folder(place, again=False) as folder:
        assert not folder.exists()
        make(folder)
        publish(folder, place)
    system, target = located(*split_uri(place))
    with system.open_input_stream(f"{target}/model/weights") as stream:
        assert stream.read() == b"w"
    with working_folder(place, again=True) as folder:
        assert (folder / "artefact.json").read_bytes() == b"{}"
    with pytest.raises(CheckpointError, match="exists already"), working_folder(place, again=False):
        pass


def test_a_path_is_its_own_working_folder(tmp_path: Path) -> None:
    with working_folder(str(tmp_path / "x"), again=False) as folder:
        assert folder == tmp_path / "x"
        make(folder)
        publish(folder, str(tmp_path / "x"))
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["artefact.json", "model"]


def test_options_of_a_uri_stay_at_its_end() -> None:
    assert below("s3://b/x?region=r", "seed-1") == "s3://b/x/seed-1?region=r"
    assert below("out/", "seed-1") == "out/seed-1"
