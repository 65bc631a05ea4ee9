"""What a person sees of a sweep that runs. Imports rich and nothing heavy."""

from rich.console import Console

from orchestrator.terminal.lines import LineDisplay
from orchestrator.terminal.live import LiveDisplay
from orchestrator.terminal.state import SweepState

__all__ = ["LineDisplay", "LiveDisplay", "SweepState", "open_display"]


def open_display(console: Console) -> LiveDisplay | LineDisplay:
    """The live view on a terminal, plain lines elsewhere."""
    return LiveDisplay(console) if console.is_terminal else LineDisplay(console)
