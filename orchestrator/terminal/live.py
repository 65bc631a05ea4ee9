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

from orchestrator.tables.words import accuracy, configuration, duration
from orchestrator.terminal.state import SlotState, SweepState
from orchestrator.terminal.words import (
    WORK,
    best_in_words,
    gpu,
    left_in_words,
    phase_in_words,
    place,
    work_in_words,
)
from orchestrator.work.doing import STAGES
from orchestrator.work.shown import NoteShown, Shown

SHOWN_SLOTS = 12
WIDE = 90
"""Columns from which on slots are a table; on narrower terminals each is a line, cut at its end."""

STYLES = {"stopped": "red", "restarting": "yellow", "silent": "yellow", "busy": "green"}
"""By the state of a slot."""


class LiveDisplay:
    """Redraws a few times a second; use as a context manager and pass events to ``apply``."""

    def __init__(self, console: Console) -> None:
        self.state, self._console = SweepState(), console
        # Events come from the driver's threads, redraws from rich's.
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=4, transient=True)

    def apply(self, event: Shown) -> None:
        """Take an event in; the next redraw shows it."""
        with self._lock:
            self.state.apply(event)
        if isinstance(event, NoteShown):
            self._console.print(Text(f"• {event.text}", style="yellow"))

    def show(self, state: SweepState) -> None:
        """Go on from a state that was folded elsewhere."""
        with self._lock:
            self.state = state

    def _view(self) -> RenderableType:
        with self._lock:
            return view(self.state, self._console.width)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def view(state: SweepState, width: int = 100) -> RenderableType:
    """The whole view, for a terminal of so many columns."""
    parts: list[RenderableType] = [_title(state), _trials(state)]
    if state.slots:
        parts.append(_slots(state, width))
    parts += [_best(state), _hint(state)]
    return Group(*parts)


def _title(state: SweepState) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right")
    what = phase_in_words(state)
    phase = f"  {what}, {duration(round(state.age(state.phase_since)))}"
    left = left_in_words(state.left)
    times = f"{duration(int(state.elapsed))} elapsed" + (f" · {left} left" if left else "")
    line.add_row(Text.assemble((state.study, "bold"), phase), Text(times, "dim"))
    return line


def _trials(state: SweepState) -> RenderableType:
    line = Table.grid(padding=(0, 2, 0, 0))
    counts = [f"{state.ended} of {state.target} trials"]
    for name in ("running", "pruned", "failed", "cancelled"):
        if number := state.count(name):
            counts.append(f"{number} {name}")
    bar = ProgressBar(total=max(1, state.target), completed=state.ended, width=24)
    line.add_row(bar, Text(" · ".join(counts)))
    return line


def _slots(state: SweepState, width: int) -> RenderableType:
    if width < WIDE:
        return Group(*(_line(state, slot) for slot in list(state.slots.values())[:SHOWN_SLOTS]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("slot", style="dim", no_wrap=True)
    table.add_column("what", no_wrap=True, overflow="ellipsis")
    table.add_column("how far", no_wrap=True, overflow="ellipsis")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("configuration", no_wrap=True, overflow="ellipsis", style="dim")
    slots = list(state.slots.values())
    for slot in slots[:SHOWN_SLOTS]:
        table.add_row(f"slot {slot.name}", *_slot(state, slot), _configuration(state, slot))
    if len(slots) > SHOWN_SLOTS:
        rest = slots[SHOWN_SLOTS:]
        busy = sum(s.state == "busy" for s in rest)
        table.add_row("", Text(f"and {len(rest)} more slots, {busy} busy", "dim"))
    return table


def _line(state: SweepState, slot: SlotState) -> RenderableType:
    line = Text.assemble((f"slot {slot.name} ", "dim"), no_wrap=True, overflow="ellipsis")
    return line.append(work_in_words(state, slot), STYLES.get(slot.state, "dim"))


def _slot(state: SweepState, slot: SlotState) -> tuple[RenderableType, RenderableType, RenderableType]:
    """What it works on, how far it is, and the accuracy of its trial."""
    style = STYLES.get(slot.state, "dim")
    doing = slot.doing
    stage = "" if doing is None else STAGES[doing.stage]
    since = duration(round(state.age(slot.since)))
    if slot.trial is None:
        what = WORK.get(slot.what, slot.what) or stage or slot.state
        far = ("" if doing is None else place(doing)) or since
        return Text(what, style), Text(_joined(far, gpu(doing) if doing else None)), ""
    trial = state.trial(slot.trial)
    epochs = state.epochs_of(trial.number)
    far = f"{'●' * trial.epoch}{'○' * max(0, epochs - trial.epoch)}"
    if epochs > 10:
        far = f"{trial.epoch}/{epochs}"
    if doing is not None:
        far = _joined(far, stage if stage != "training" else "", place(doing), gpu(doing))
    return Text(f"trial {trial.number}", style), Text(far), accuracy(trial.mean)


def _joined(*parts: str | None) -> str:
    return "  ".join(part for part in parts if part)


def _configuration(state: SweepState, slot: SlotState) -> str:
    values = {} if slot.trial is None else state.trial(slot.trial).values
    return configuration(values) if values else slot.what if slot.trial is not None else ""


def _best(state: SweepState) -> RenderableType:
    best = state.best
    style = "dim" if best is None else "bold"
    shown = Text("best so far: ", "dim" if best is None else "", no_wrap=True, overflow="ellipsis")
    return shown.append(best_in_words(best), style)


def _hint(state: SweepState) -> RenderableType:
    if state.phase == "stopping":
        return Text(
            "Ctrl-C again stops at once; the same command continues from the last saved epoch", "yellow"
        )
    return Text("Ctrl-C stops and keeps everything; the same command continues", "dim")
