"""What a person sees of work that runs. Imports rich and nothing heavy."""

from orchestrator.terminal.activity import Activity
from orchestrator.terminal.display import Display, open_display
from orchestrator.terminal.lines import LineDisplay
from orchestrator.terminal.live import LiveDisplay
from orchestrator.terminal.state import SweepState

__all__ = ["Activity", "Display", "LineDisplay", "LiveDisplay", "SweepState", "open_display"]
