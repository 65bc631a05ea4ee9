"""Which form a run is shown in."""

from __future__ import annotations

from rich.console import Console

from orchestrator.terminal.lines import LineDisplay
from orchestrator.terminal.live import LiveDisplay

Display = LiveDisplay | LineDisplay


def open_display(console: Console) -> Display:
    """The live view on a terminal; plain lines elsewhere, and on terminals that cannot move the cursor."""
    return LiveDisplay(console) if redraws(console) else LineDisplay(console)


def redraws(console: Console) -> bool:
    """Whether what was printed there can be replaced."""
    return console.is_terminal and not console.is_dumb_terminal
