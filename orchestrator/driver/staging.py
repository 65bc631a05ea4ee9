"""Stopping trials by the driver's own rule: over epochs, and over seeds, which are trained in stages."""

from __future__ import annotations

from orchestrator.ledger import TrialRecord
from orchestrator.search.stop_rule import Judgement, StopRule
from orchestrator.statistics.stages import SEEDS, STOPPED, by_seed, go_on, reached, seeds_in_work


class Staging:
    """Applies the rule to the records of trials.

    Args:
        rule: of the study.
    """

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule

    def learn(self, record: TrialRecord) -> None:
        """Take in what a recorded trial reached."""
        for epoch, values in reached(record, self._rule.seeds):
            self._rule.take(record.number, epoch, values)
        self.ended(record)

    def ended(self, record: TrialRecord) -> None:
        """Take in that a trial is complete; one that violates a constraint is no rival of others."""
        if record.state == "complete" and not record.violated and record.epochs:
            self._rule.complete(by_seed(record.epochs[-1], self._rule.seeds))

    def begin(self, record: TrialRecord) -> int:
        """Seeds that a trial begins or goes on with; one that has begun keeps its stage."""
        if SEEDS not in record.attributes and not record.epochs:
            stage = self._rule.first_stage()
            if stage < self._rule.seeds:
                record.attributes[SEEDS] = stage
        return seeds_in_work(record, self._rule.seeds)

    def reached(self, record: TrialRecord) -> Judgement | None:
        """Take in the latest epoch of a trial; why it is to be stopped, if it is.

        After the last epoch of some of its seeds that is decided by ``next_stage``.
        """
        epoch = record.epochs[-1]
        values = by_seed(epoch, seeds_in_work(record, self._rule.seeds))
        self._rule.take(record.number, epoch["epoch"], values)
        return None if epoch["epoch"] == self._rule.epochs else self._rule.judge(epoch["epoch"], values)

    def next_stage(self, record: TrialRecord) -> int | Judgement:
        """Begin the next stage of a trial and return its seeds; or why the trial is to be stopped instead."""
        seeds = seeds_in_work(record, self._rule.seeds)
        if record.epochs:
            values = by_seed(record.epochs[-1], seeds)
            if (judgement := self._rule.judge(self._rule.epochs, values)) is not None:
                return judgement
        further = self._rule.next_stage(seeds)
        go_on(record, seeds, further)
        return further


def stopped(record: TrialRecord, judgement: Judgement) -> None:
    """Keep where a trial was stopped."""
    record.attributes[STOPPED] = judgement.to_dict()
