"""One message about one event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmap_model.plain import content_key
from orchestrator.redaction import redact

if TYPE_CHECKING:
    from orchestrator.study.notify import NoticeKind

LONGEST = 2000
"""Characters of a message: some receivers refuse longer ones."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A message.

    Attributes:
        id: the same for the same event of the same study, whoever tells it and however often.
        kind: of the event.
        study: its name.
        title, text: what a person reads; without secrets.
        at: time of the event, ISO in UTC.
    """

    id: str
    kind: NoticeKind
    study: str
    title: str
    text: str
    at: str

    @classmethod
    def of(
        cls, kind: NoticeKind, *, study: str, study_id: str, subject: str, happened: str, lines: str, at: str
    ) -> Notice:
        """A notice of an event.

        Args:
            kind: of the event.
            study, study_id: whose it is.
            subject: tells it from other events of its kind: a run, a trial, a slot.
            happened: in a few words, for the title.
            lines: what else is to be said.
            at: when it happened.
        """
        known = content_key({"study": study_id or study, "kind": kind, "subject": subject})[:16]
        body = f"{lines.rstrip()[:LONGEST]}\n\n{at[:19].replace('T', ' ')} UTC · event {known}"
        return cls(
            id=known,
            kind=kind,
            study=study,
            title=redact(f"{study}: {happened}"),
            text=redact(body),
            at=at,
        )

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Notice:
        """What ``to_dict`` gave; raises KeyError for anything else."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})
