"""Running a study: from its records to the next result, through Ray and back. Imports nothing heavy."""

from orchestrator.driver.cancelling import request_cancel
from orchestrator.driver.invocation import Options, Outcome
from orchestrator.driver.run import confirm_study, run_study

__all__ = ["Options", "Outcome", "confirm_study", "request_cancel", "run_study"]
