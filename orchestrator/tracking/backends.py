"""Backends by the scheme of a tracking URI, or by the name of a custom class. Imports no client."""

from __future__ import annotations

import inspect
import urllib.parse
from collections.abc import Iterator

from mmap_model import references
from orchestrator.redaction import shown_uri
from orchestrator.tracking.backend import WHERE, Backend, TrackingError
from orchestrator.tracking.mlflow.backend import Mlflow

BACKENDS: tuple[type[Backend], ...] = (Mlflow,)

EXAMPLE = "file.py:MyTracker"


def find_backend(uri: str, name: str | None = None, where: str = WHERE) -> type[Backend]:
    """The backend of a tracking URI.

    Args:
        uri: tracking URI.
        name: a class that is not of this package: ``file.py:MyTracker``, ``my_module:MyTracker``.
        where: what holds the URI, for messages.

    Raises:
        TrackingError: there is no such class, it is no backend, or none serves the scheme of the URI.
    """
    scheme = urllib.parse.urlparse(uri).scheme
    if name is not None:
        backend = _own(name, "tracking.backend" if where == WHERE else "--backend")
        if not backend.serves(scheme):
            raise TrackingError(
                f"{name} does not serve {shown_uri(uri)}",
                where=where,
                fix=f"give it a URI that begins with {' or '.join(f'{s}:' for s in backend.schemes)}",
            )
        return backend
    for known in BACKENDS:
        if known.serves(scheme):
            return known
    raise TrackingError(
        f"nothing here serves {scheme}: ({shown_uri(uri)})",
        where=where,
        fix=f"use an MLflow URI, or name the class that does: tracking.backend={EXAMPLE}",
    )


def check_tracking(
    uri: str, name: str | None = None, *, timeout: float = 5.0, where: str = WHERE
) -> type[Backend]:
    """Find a URI's backend and let it try whether it can be written or reached, without importing its client.

    Args:
        uri, name, where: as of ``find_backend``.
        timeout: seconds for a server to answer.

    Raises:
        TrackingError: naming the URI, the reason and what to change.
    """
    backend = find_backend(uri, name, where)
    try:
        backend.check(uri, timeout)
    except TrackingError as error:
        raise TrackingError(error.problem, where=where, fix=error.fix) from error.__cause__
    return backend


def shortcomings(backend: type[Backend]) -> Iterator[str]:
    """What a backend cannot do, a sentence each."""
    # Of one that connects as another class what that remembers is not known here.
    if not inspect.isabstract(backend) and not (_writes(backend, "open") and _writes(backend, "finish")):
        yield "It does not remember what it received: every run of a study sends it everything again"
    if not _writes(backend, "page"):
        yield "It has no page that orchestrator ui could open"
    yield from backend.cannot


def _writes(backend: type[Backend], method: str) -> bool:
    """Whether it has a method of its own in place of the one that does nothing."""
    return inspect.getattr_static(backend, method) is not inspect.getattr_static(Backend, method)


def _own(name: str, where: str) -> type[Backend]:
    reference = references.parse(name)
    if reference is None:
        raise TrackingError(f"{name!r} names no class", where=where, fix=f"write {EXAMPLE}")
    found = references.resolve(reference, where=where, example=EXAMPLE, error=TrackingError)
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise TrackingError(
            f"{reference.attribute!r} of {reference.location} is not a tracker",
            where=where,
            fix="make it a class that derives from orchestrator.tracking.Backend",
        )
    if inspect.isabstract(found) or not found.schemes:
        raise TrackingError(
            f"{name} does not say how to write, or which URIs it serves",
            where=where,
            fix='give it a method write and schemes = ("my-scheme",)',
        )
    return found
