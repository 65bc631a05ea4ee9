"""Artefacts at places that are no folder of this machine: made or fetched here, sent once they hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmap_model.errors import CheckpointError
from mmap_model.inference.artefact import DESCRIPTION
from mmap_model.paths import expanded
from orchestrator.predicting.fetching import fetched
from orchestrator.predicting.refs import is_uri, located, shown_path, split_uri
from orchestrator.redaction import redact


@contextmanager
def working_folder(out: str, *, again: bool) -> Iterator[Path]:
    """The folder that an artefact is made in: ``out`` itself, or a temporary one for a URI.

    Args:
        out: path or URI.
        again: what lies at a URI already is fetched, to be checked.

    Raises:
        CheckpointError: the URI holds an artefact and is not to be looked at again, or cannot be reached.
    """
    if not is_uri(out):
        yield expanded(out.removeprefix("file://"))
        return
    if not _holds(out):
        with tempfile.TemporaryDirectory(prefix="export-") as folder:
            yield Path(folder) / "artefact"
        return
    if not again:
        raise CheckpointError("exists already", where=_shown(out), fix="give another place, or remove it")
    with fetched(out) as folder:
        yield folder


def below(out: str, name: str) -> str:
    """A folder inside a path or URI, whose options stay at its end."""
    place, mark, options = out.partition("?") if is_uri(out) else (out, "", "")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


def publish(folder: Path, out: str) -> None:
    """Send an artefact to a URI, its description last: what is there with a description is whole.

    Raises:
        CheckpointError: it cannot be written.
    """
    if not is_uri(out):
        return
    system, target = located(*split_uri(out))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        for name in sorted(names, key=lambda name: name == DESCRIPTION):
            parent = f"{target}/{name}".rpartition("/")[0]
            system.create_dir(parent, recursive=True)
            with (folder / name).open("rb") as source, system.open_output_stream(f"{target}/{name}") as sink:
                while block := source.read(1 << 20):
                    sink.write(block)
    except OSError as error:
        raise _unreachable("written", out, error) from error


def _holds(out: str) -> bool:
    from pyarrow import fs

    system, target = located(*split_uri(out))
    try:
        return bool(system.get_file_info(f"{target}/{DESCRIPTION}").type == fs.FileType.File)
    except OSError as error:
        raise _unreachable("read", out, error) from error


def _unreachable(verb: str, out: str, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"cannot be {verb}: {redact(str(error)).splitlines()[0]}",
        where=_shown(out),
        fix="check its name, and the credentials in the environment",
    )


def _shown(out: str) -> str:
    return shown_path(*split_uri(out))
