"""Tables, figures and claims made of a `Comparison` alone."""

from orchestrator.reports.comparison.claims import Claim, claims
from orchestrator.reports.comparison.write import show, texts, write_report

__all__ = ["Claim", "claims", "show", "texts", "write_report"]
