from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster import working_dir
from cluster.errors import ClusterError
from cluster.working_dir import staged
from orchestrator.submission.request import PACKAGES


def test_what_is_sent_is_enough_to_run_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds.yaml").write_text("name: birds\nspace: [learning_rate]\n")
    (tmp_path / "mine" / "__pycache__").mkdir(parents=True)
    (tmp_path / "mine" / "__pycache__" / "x.pyc").touch()
    (tmp_path / "mine" / "space.py").touch()
    (tmp_path / "data.bin").touch()
    with staged(PACKAGES, {"birds.yaml": Path("birds.yaml"), "mine": Path("mine")}) as folder:
        names = {path.name for path in folder.iterdir()}
        assert names == {*PACKAGES, "birds.yaml", "mine"}
        assert not list(folder.rglob("__pycache__"))
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 30 * 2**20
        code = (
            "import sys; sys.path[:0] = sys.argv[1:]; import orchestrator.cli.main, mmap_model; "
            "print(orchestrator.cli.main.__file__, mmap_model.__file__)"
        )
        shown = subprocess.run(
            [sys.executable, "-S", "-c", code, str(folder), *filter(None, sys.path)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, shown.stderr
        assert all(part.startswith(str(folder)) for part in shown.stdout.split())
    assert not folder.exists()


@pytest.mark.parametrize("target", ["../outside.py", "/etc/passwd"])
def test_nothing_is_put_outside_the_folder(tmp_path: Path, target: str) -> None:
    (tmp_path / "x.py").touch()
    with pytest.raises(ClusterError, match="outside the folder"), staged([], {target: tmp_path / "x.py"}):
        pass


def test_a_missing_file_and_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="does not exist"), staged([], {"x": tmp_path / "x"}):
        pass
    monkeypatch.setattr(working_dir, "LARGEST", 10)
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(ClusterError, match="would send"), staged([], {"big": tmp_path / "big"}):
        pass
