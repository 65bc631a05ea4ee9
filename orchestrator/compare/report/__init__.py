"""Tables, figures and claims made of a `Comparison` alone."""

from orchestrator.compare.report.claims import Claim, claims
from orchestrator.compare.report.terminal import show
from orchestrator.compare.report.write import write_report

__all__ = ["Claim", "claims", "show", "write_report"]
