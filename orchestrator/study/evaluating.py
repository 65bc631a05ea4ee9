"""After which epochs validation images are scored: ``compute.evaluate`` together with what stops trials."""

from __future__ import annotations

import dataclasses

from mmap_model.execution import Execution
from orchestrator.study.model import Study
from orchestrator.study.scheduler import VERSION, judged_epochs


def execution(study: Study) -> Execution:
    """How the cells of a study are computed, with the epochs that ``compute.evaluate: rungs`` stands for.

    Those are where the scheduler may stop a trial; a custom scheduler may look after any, so all are.
    """
    compute = study.compute
    if compute.evaluate != "rungs" or compute.rungs:
        return compute
    judged = judged_epochs(
        study.search.scheduler,
        epochs=study.recipe.epochs,
        reduction_factor=study.search.reduction_factor,
        warmup=study.recipe.warmup_epochs,
        version=study.search.scheduler_version or VERSION,
    )
    if judged is None:
        return dataclasses.replace(compute, evaluate="every")
    return dataclasses.replace(compute, rungs=judged)
