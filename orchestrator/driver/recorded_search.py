"""The search as records have it: a proposal becomes a record, and from records the sampler is told again."""

from __future__ import annotations

from mmap_model.cells import Point
from orchestrator.ledger import TrialRecord
from orchestrator.ledger.trial_record import CONSTRAINTS, SAMPLER
from orchestrator.rows.row import epochs_of
from orchestrator.search.proposals import Proposal, TrialOutcome


def record_of(proposal: Proposal) -> TrialRecord:
    """The record of a trial that begins."""
    return TrialRecord(
        number=proposal.number,
        params=proposal.params,
        distributions=proposal.distributions,
        point=proposal.point.to_dict(),
        attributes={SAMPLER: proposal.kept} if proposal.kept else {},
    )


def proposal_of(record: TrialRecord) -> Proposal:
    """What was proposed, of a recorded trial."""
    return Proposal(
        record.number,
        record.params,
        record.distributions,
        Point.from_dict(record.point),
        record.attributes.get(SAMPLER, {}),
    )


def outcome_of(record: TrialRecord) -> TrialOutcome:
    """What a recorded trial came to."""
    return TrialOutcome(
        state=record.state,
        epochs=epochs_of(record),
        values=record.value if isinstance(record.value, list) else None,
        violations=record.attributes.get(CONSTRAINTS, {}),
    )


def trial_item(number: int) -> str:
    """Id of the work item of a trial."""
    return f"trial-{number}"
