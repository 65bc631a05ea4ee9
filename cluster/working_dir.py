"""The folder that a job starts in: the packages of this software and the files of one study, nothing else.

Ray uploads a working directory as one zip below 512 MiB, named by its content, so an unchanged one is not
sent twice.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cluster.errors import ClusterError

LARGEST = 400 * 2**20
"""Bytes, unpacked, that are sent at most."""

LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


@contextlib.contextmanager
def staged(packages: Iterable[str], files: Mapping[str, Path]) -> Iterator[Path]:
    """A temporary folder to be uploaded.

    Args:
        packages: names of importable top-level packages, sent as this process has them.
        files: further files or folders, by their path in the folder.

    Raises:
        ClusterError: a file does not exist, would lie outside the folder, or all is too large.
    """
    with tempfile.TemporaryDirectory(prefix="orchestrator-job-") as name:
        root = Path(name)
        for package in packages:
            shutil.copytree(_source(package), root / package, ignore=LEFT_OUT)
        for target, source in files.items():
            _copy(source, root, target)
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        if size > LARGEST:
            raise ClusterError(
                f"the job would send {size / 2**20:.0f} MiB to the cluster, at most {LARGEST // 2**20}",
                where="--include",
                fix="put data on storage that all nodes see, and send code only",
            )
        yield root


def _copy(source: Path, root: Path, target: str) -> None:
    destination = (root / target).resolve()
    if not destination.is_relative_to(root.resolve()) or not source.exists():
        reason = "does not exist" if not source.exists() else "lies outside the folder of the study"
        raise ClusterError(
            f"{source} {reason}",
            where="files of the job",
            fix="name files, in a study and with --include, by paths below the current folder",
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, destination, ignore=LEFT_OUT, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, destination)


def _source(package: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, package
    return Path(spec.origin).parent
