"""Who is told when something happens to a study, and of what: the key ``notify``."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from orchestrator.study.errors import StudyError
from orchestrator.study.fields import ToTuple
from orchestrator.study.strict import Strict

NoticeKind = Literal["finished", "failed", "stalled", "budget", "slot_lost", "improved"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Notify(Strict):
    """Messages to people, through Apprise. May be changed on a rerun."""

    to: Annotated[tuple[str, ...], ToTuple]
    """Environment variables that hold an Apprise URL each, such as ``json://host/path`` or ``slack://…``;
    never the URLs themselves, which are secrets."""
    events: Annotated[tuple[NoticeKind, ...], ToTuple] = (
        "finished",
        "failed",
        "stalled",
        "budget",
        "slot_lost",
    )
    """``finished``; ``failed``: it could not go on, or was ended by SIGTERM; ``stalled``: nothing moves, or
    its driver died; ``budget``: one is spent; ``slot_lost``: a slot takes no more work; ``improved``: a trial
    is better than all before."""
    stalled_after_s: float = Field(default=900.0, gt=0)
    """Seconds without any progress after which a running study counts as stalled."""

    @model_validator(mode="before")
    @classmethod
    def _targets_alone(cls, value: Any) -> Any:
        """``notify: NOTIFY_URL`` and ``notify: [TEAM_URL, MY_URL]`` mean ``to``."""
        return {"to": value} if isinstance(value, str | list | tuple) else value

    @field_validator("to", mode="before")
    @classmethod
    def _names_of_variables(cls, value: Any) -> Any:
        """What is refused is not repeated: it may be the secret itself."""
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not names:
            raise StudyError("it names no variable", where="notify.to", fix="write to: NOTIFY_URL")
        for name in names:
            if not isinstance(name, str) or _VARIABLE.fullmatch(name) is None:
                raise StudyError(
                    "it is not the name of an environment variable",
                    where="notify.to",
                    fix="write the name of a variable that holds the Apprise URL, such as to: NOTIFY_URL, "
                    "and set that variable where the study runs; the URL itself does not belong in a study",
                )
        if len(set(names)) < len(names):
            raise StudyError("a variable is given twice", where="notify.to", fix="name each once")
        return tuple(names)
