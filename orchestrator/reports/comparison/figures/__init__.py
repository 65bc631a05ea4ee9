"""Figures of a report; matplotlib is imported only when one is drawn."""

from orchestrator.reports.comparison.figures.draw import draw_figures

__all__ = ["draw_figures"]
