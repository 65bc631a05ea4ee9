"""Addresses in environment variables: checked before anything starts, shown without their secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from orchestrator.redaction import hide_variable
from orchestrator.study.errors import StudyError
from orchestrator.study.notify import Notify

INSTALL = "run uv sync --inexact --extra notify, or pip install apprise"


def check_addresses(notify: Notify | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Check that every address can be told; what may be shown of each, by variable. Nothing is sent.

    Imports Apprise, which takes a second, unless there is nothing to check.

    Raises:
        StudyError: Apprise is not installed, a variable is not set, or what it holds is not an Apprise URL.
    """
    if notify is None:
        return {}
    hide_addresses(notify)
    if find_spec("apprise") is None:
        raise StudyError("notices need apprise, not installed here", where="notify", fix=INSTALL)
    for name in notify.to:
        if not environment.get(name, "").strip():
            raise StudyError(
                f"variable {name} is not set here",
                where="notify.to",
                fix="set it to an Apprise URL where the study runs, or leave it out; "
                "orchestrator notify test STUDY sends a message",
            )
    return {name: _shown(name, environment[name].strip()) for name in notify.to}


def hide_addresses(notify: Notify) -> None:
    """From now on the addresses are shown nowhere: they are secrets, whatever their variables are called."""
    for name in notify.to:
        hide_variable(name)


def _shown(name: str, url: str) -> str:
    """``json://host``: the service, and the host where that is no secret of the service's own."""
    import apprise

    found: Any = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if found is None:
        raise StudyError(
            f"variable {name} does not hold an Apprise URL",
            where="notify.to",
            fix="set it to one, such as json://host:8080/path, mailto://… or slack://…; what services look "
            "like stands in Apprise's documentation",
        )
    scheme = url.partition("://")[0].lower()
    host = getattr(found, "host", None) if "host" in found.template_tokens else None
    return f"{scheme}://{host}" if host else f"{scheme}://"
