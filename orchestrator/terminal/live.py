"""The live view of a sweep on a terminal: slots, trials, best so far, time left."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.tables.words import accuracy, configuration, duration, integer
from orchestrator.terminal.state import ENDED, SlotState, SweepState
from orchestrator.work.shown import NoteShown, Shown

SHOWN_SLOTS = 12
PHASES = {
    "starting": "starting the slots",
    "search": "searching",
    "columns": "training the columns",
    "baselines": "measuring zero-shot and zero-step",
    "finalists": "scoring on the test images",
    "stopping": "stopping: saving what is in flight",
    "done": "done",
}
WORK = {
    "probe": "measuring task affinity",
    "baseline": "reference row",
    "confirm": "scoring on the test images",
}
STYLES = {"stopped": "red", "restarting": "yellow", "silent": "yellow", "busy": "green"}
"""By the state of a slot."""


class LiveDisplay:
    """Redraws a few times a second; use as a context manager and pass events to ``apply``."""

    def __init__(self, console: Console) -> None:
        self.state = SweepState()
        # Events come from the driver's threads, redraws from rich's.
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=4, transient=True)

    def apply(self, event: Shown) -> None:
        """Take an event in; the next redraw shows it."""
        with self._lock:
            self.state.apply(event)
        if isinstance(event, NoteShown):
            self._live.console.print(Text(f"• {event.text}", style="yellow"))

    def _view(self) -> RenderableType:
        with self._lock:
            return view(self.state)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def view(state: SweepState) -> RenderableType:
    """The whole view."""
    parts: list[RenderableType] = [_title(state), _trials(state)]
    if state.slots:
        parts.append(_slots(state))
    parts += [_best(state), _hint(state)]
    return Group(*parts)


def _title(state: SweepState) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right")
    left = duration(state.remaining)
    times = f"{duration(int(state.elapsed))} elapsed" + (f" · about {left} left" if state.remaining else "")
    line.add_row(
        Text.assemble((state.study, "bold"), f"  {PHASES.get(state.phase, state.phase)}"), Text(times, "dim")
    )
    return line


def _trials(state: SweepState) -> RenderableType:
    ended = state.count(*ENDED)
    line = Table.grid(padding=(0, 2, 0, 0))
    counts = [f"{ended} of {state.target} trials"]
    for name in ("running", "pruned", "failed", "cancelled"):
        if number := state.count(name):
            counts.append(f"{number} {name}")
    bar = ProgressBar(total=max(1, state.target), completed=ended, width=24)
    line.add_row(bar, Text(" · ".join(counts)))
    return line


def _slots(state: SweepState) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("slot", style="dim", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis")
    table.add_column("epochs", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    slots = list(state.slots.values())
    for slot in slots[:SHOWN_SLOTS]:
        table.add_row(f"slot {slot.name}", *_slot(state, slot))
    if len(slots) > SHOWN_SLOTS:
        rest = slots[SHOWN_SLOTS:]
        busy = sum(s.state == "busy" for s in rest)
        table.add_row("", Text(f"and {len(rest)} more slots, {busy} busy", "dim"), "", "", "")
    return table


def _slot(state: SweepState, slot: SlotState) -> tuple[RenderableType, ...]:
    style = STYLES.get(slot.state, "dim")
    if slot.trial is None:
        return Text(WORK.get(slot.what, slot.what) or slot.state, style), "", "", ""
    trial = state.trial(slot.trial)
    epochs = f"{'●' * trial.epoch}{'○' * max(0, state.epochs - trial.epoch)}"
    if state.epochs > 10:
        epochs = f"{trial.epoch}/{state.epochs}"
    shown = configuration(trial.values) if trial.values else slot.what
    return Text(f"trial {trial.number}", style), shown, epochs, accuracy(trial.mean)


def _best(state: SweepState) -> RenderableType:
    best = state.best
    if best is None:
        return Text("best so far: none complete yet", "dim")
    return Text.assemble(
        "best so far: ",
        (f"{accuracy(best.mean)} %", "bold green"),
        f"  trial {best.number}  {configuration(best.values)}  {integer(best.parameters)} parameters",
        no_wrap=True,
        overflow="ellipsis",
    )


def _hint(state: SweepState) -> RenderableType:
    if state.phase == "stopping":
        return Text(
            "Ctrl-C again stops at once; the same command continues from the last saved epoch", "yellow"
        )
    return Text("Ctrl-C stops and keeps everything; the same command continues", "dim")
