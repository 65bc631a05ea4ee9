"""What a user writes in a file or module of their own and names as ``file.py:Name`` or ``module:Name``.

A file can travel: a process that has not got it takes the text from one that has (``source_text``,
``provide``). A module must be importable wherever it is named.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mmap_model.errors import ConfigurationError, InputError
from mmap_model.paths import expanded, is_file
from mmap_model.text_files import read_text

_MODULES: dict[Path, ModuleType] = {}
_PROVIDED: dict[Path, str] = {}

TRUST = "MMAP_TRUST_CODE"
"""Variable that says 1 where Python files that artefacts name may run."""

_LOADED_ONLY: ContextVar[bool] = ContextVar("loaded_only", default=False)


@dataclass(frozen=True)
class Reference:
    """One name, taken apart.

    Attributes:
        location: path of a ``.py`` file, relative to where the process runs, or a dotted module name.
        attribute: of the file or module.
    """

    location: str
    attribute: str

    @property
    def is_file(self) -> bool:
        return self.location.endswith(".py")

    @property
    def path(self) -> Path:
        """Of the file, absolute."""
        return expanded(self.location).absolute()


def parse(name: str) -> Reference | None:
    """The reference that ``name`` is, or None if it is a plain name."""
    location, colon, attribute = name.rpartition(":")
    return Reference(location, attribute) if colon else None


def resolve(
    reference: Reference, *, where: str, example: str, error: type[InputError] = ConfigurationError
) -> Any:
    """What the reference names, None if its file or module lacks it; a file is read once per process.

    Args:
        reference: what to find.
        where: the key or option that gave it, for messages.
        example: a name such as one would give, for messages.
        error: what to raise.

    Raises:
        InputError: of the type ``error``: no such file or module, or it fails on import.
    """
    if _LOADED_ONLY.get() and not _is_loaded(reference):
        raise error(
            f"{reference.location}:{reference.attribute} is Python code that this process has not loaded. A "
            "file from elsewhere names it, so it is not run",
            where=where,
            fix=f"read it, and if you trust it say so: load(…, trusted=True), or the variable {TRUST}=1",
        )
    if reference.is_file:
        module = _load_file(reference, where, error)
    else:
        module = _import(reference.location, where, example, error)
    return getattr(module, reference.attribute, None)


@contextmanager
def loaded_only() -> Iterator[None]:
    """Within, `resolve` runs and imports nothing: it knows only what this process has loaded before."""
    former = _LOADED_ONLY.set(True)
    try:
        yield
    finally:
        _LOADED_ONLY.reset(former)


def _is_loaded(reference: Reference) -> bool:
    return reference.path in _MODULES if reference.is_file else reference.location in sys.modules


def source_text(reference: Reference) -> str | None:
    """The text of the file, as far as this process knows it; None for a module."""
    if not reference.is_file:
        return None
    known = _PROVIDED.get(reference.path)
    return read_text(reference.path, reference.location, ConfigurationError) if known is None else known


def sources(*names: str) -> dict[str, str]:
    """The files behind those of ``names`` that are references, text by location, for another process."""
    found = {}
    for reference in map(parse, names):
        if reference is not None and (text := source_text(reference)) is not None:
            found[reference.location] = text
    return found


def provide(location: str, text: str) -> None:
    """Let ``location`` stand for ``text`` in this process from now on, whatever the disk holds."""
    path = Reference(location, "").path
    if _PROVIDED.get(path) != text:
        _PROVIDED[path] = text
        _MODULES.pop(path, None)


class ClassCarrier:
    """The own files of this process, pickled before objects of their classes: unpickling loads the files.

    Processes that are spawned know the classes then, whether or not they find the files.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _carry, ({str(path): _PROVIDED[path] for path in _MODULES},)


def _carry(texts: dict[str, str]) -> ClassCarrier:
    for location, text in texts.items():
        provide(location, text)
        _load_file(Reference(location, ""), location, ConfigurationError)
    return ClassCarrier()


def _import(location: str, where: str, example: str, error: type[InputError]) -> ModuleType:
    # Commands run from the user's folder, but a console script does not put it on the path.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(location)
    except ImportError as failure:
        raise error(
            f"module {location!r} cannot be imported: {failure}",
            where=where,
            fix=f"run from the folder that holds it, or give path/to/{example}",
        ) from failure


def _load_file(reference: Reference, where: str, error: type[InputError]) -> ModuleType:
    path = reference.path
    if path in _MODULES:
        return _MODULES[path]
    if path not in _PROVIDED:
        if not is_file(path):
            raise error(
                f"{reference.location} does not exist", where=where, fix="give the path from where you run"
            )
        _PROVIDED[path] = read_text(path, where, error)
    # Files of one name in different folders are different modules.
    name = f"_own_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_loader(name, _TextLoader(path, _PROVIDED[path]), origin=str(path))
    assert spec is not None, "a loader is given"
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except Exception as failure:
        del sys.modules[name]
        raise error(
            f"{reference.location} fails on import: {type(failure).__name__}: {failure}",
            where=where,
            fix="make the file importable by itself",
        ) from failure
    _MODULES[path] = module
    return module


class _TextLoader(importlib.abc.ExecutionLoader):
    """Runs a module from its text; tracebacks show the lines even where the file does not exist."""

    def __init__(self, path: Path, text: str) -> None:
        self._path, self._text = path, text

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_source(self, fullname: str) -> str:
        return self._text
