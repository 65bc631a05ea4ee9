"""Phases, slots and estimates in words, the same in both forms of a display."""

from __future__ import annotations

from orchestrator.tables.words import accuracy, configuration, duration, integer
from orchestrator.tables.words import size as bytes_in_words
from orchestrator.terminal.left import Left
from orchestrator.terminal.state import SlotState, SweepState, TrialProgress
from orchestrator.work.doing import STAGES, Doing

PHASES = {
    "checking": "checking study, data, weights and paths",
    "starting": "reading records",
    "ray": "starting Ray",
    "slots": "starting the slots",
    "search": "searching",
    "race": "racing the finalists",
    "columns": "training the columns",
    "baselines": "measuring zero-shot and zero-step",
    "finalists": "scoring on the test images",
    "stopping": "stopping: saving what is in flight",
    "tracking": "sending the tracker the rest",
    "results": "reading the results",
    "done": "done",
}
WORK = {
    "probe": "measuring task affinity",
    "baseline": "reference row",
    "confirm": "scoring on the test images",
}
STEPS = {"training": "step", "probe": "step", "validation": "batch", "test": "batch"}
"""What is counted in a stage."""


def phase_in_words(state: SweepState) -> str:
    """``starting the slots`` and the like."""
    return PHASES.get(state.phase, state.phase)


def place(doing: Doing) -> str:
    """``epoch 2 of 5, step 12 of 40, 3 cells``: how far a slot is; empty if nothing is counted."""
    parts = []
    if doing.epoch and doing.epochs:
        parts.append(f"epoch {doing.epoch} of {doing.epochs}")
    if doing.step or doing.steps:
        of = f" of {doing.steps}" if doing.steps else ""
        parts.append(f"{STEPS.get(doing.stage, 'step')} {doing.step}{of}")
    if doing.cells > 1:
        parts.append(f"{doing.cells} cells")
    return ", ".join(parts)


def doing_in_words(doing: Doing) -> str:
    """``training, epoch 2 of 5, step 12 of 40, 3 cells``."""
    return ", ".join(part for part in (STAGES[doing.stage], place(doing), gpu(doing)) if part)


def work_in_words(state: SweepState, slot: SlotState) -> str:
    """``trial 3, training, epoch 2 of 5, step 12 of 40, 3 cells``: what a slot does and how far it is."""
    doing = slot.doing
    parts = [f"trial {slot.trial}" if slot.trial is not None else WORK.get(slot.what, slot.what)]
    if doing is not None and STAGES[doing.stage] not in parts:
        parts.append(STAGES[doing.stage])
    if slot.state not in ("busy", "idle") or not any(parts):
        parts.insert(0, slot.state)
    if doing is not None:
        parts += [place(doing), gpu(doing)]
    elif slot.trial is not None and state.trial(slot.trial).epoch:
        parts.append(f"epoch {state.trial(slot.trial).epoch} of {state.epochs_of(slot.trial)} done")
    return ", ".join(part for part in parts if part)


def gpu(doing: Doing) -> str:
    """``GPU 87 %, 12.1 GB``; empty where nothing is known of one."""
    if doing.gpu_busy is None:
        return ""
    used = "" if doing.gpu_bytes is None else f", {bytes_in_words(doing.gpu_bytes)}"
    return f"GPU {100 * doing.gpu_busy:.0f} %{used}"


def result(trial: TrialProgress) -> str:
    """``55.3 % (51.6 to 59.0)``: the mean of a trial and its 95 % interval over seeds."""
    between = ""
    if trial.low is not None and trial.high is not None:
        between = f" ({accuracy(trial.low)} to {accuracy(trial.high)})"
    return f"{accuracy(trial.mean)} %{between}"


def best_in_words(best: TrialProgress | None) -> str:
    """The best complete trial so far, its interval and its configuration."""
    if best is None:
        return "none complete yet"
    shown = f"{result(best)}, trial {best.number}"
    if best.values:
        shown += f", {configuration(best.values)}"
    return shown if best.parameters is None else f"{shown}, {integer(best.parameters)} parameters"


def left_in_words(left: Left | None) -> str:
    """``4 min 10 s to 7 min 02 s``, or ``about 5 min 30 s`` after a single trial; empty before any."""
    if left is None or left.seconds < 1:
        return ""
    if left.low is None or left.high is None:
        return f"about {duration(left.seconds)}"
    return f"{duration(left.low)} to {duration(left.high)}"
