"""Addresses of single runs on the page of a study's tracker, for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.face.stored import Stored

TRIAL, BASELINE = "trial/", "baseline/"


def run_links(stored: Stored) -> dict[str, str]:
    """Addresses by number of the trial or name of the reference row.

    None where tracking is no server that answers: the page on a private database has no lasting address.
    """
    from orchestrator.tracking import Connection, TrackingError
    from orchestrator.tracking.backends import find_backend

    store, tracking = stored.store, stored.study.tracking
    uri = tracking.resolved_uri
    to = Connection(uri=uri, experiment=store.name, study=store.id, backend=tracking.backend)
    try:
        found = find_backend(uri, tracking.backend).runs(uri, to)
    except TrackingError:
        return {}
    links = {}
    for run, address in found.items():
        if run.startswith(TRIAL):
            links[run.removeprefix(TRIAL)] = address
        elif run.startswith(BASELINE):  # a row before training is named after its trial's settings too
            links[run.removeprefix(BASELINE).partition("-")[0]] = address
    return links
