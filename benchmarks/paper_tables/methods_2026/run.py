"""Newer methods beside MmAP: everything there is, on every packaged CLIP, resumable.

    python benchmarks/paper_tables/methods_2026/run.py --storage FOLDER   # this machine as it is
    python … --storage FOLDER --slots 16 --gpus-per-slot 0.0625            # one GPU for 16 slots
    python … --storage FOLDER plan                                         # cells, seconds; starts nothing
    python … --storage FOLDER take                                         # keeps what finished stages found

The same command resumes. ``--stages`` and ``--clips`` restrict it, ``--tiny`` tries it out.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT)]

from clips import packaged_clips  # noqa: E402
from estimate import show  # noqa: E402
from kept import add_to_log, machine, take  # noqa: E402
from page import write  # noqa: E402
from profiles import profile  # noqa: E402
from stages import KINDS, Stage, stages  # noqa: E402
from transfers import transfer  # noqa: E402

from orchestrator.compare.comparison import Comparison  # noqa: E402
from orchestrator.compare.remaining import find_work  # noqa: E402
from orchestrator.ledger import Ledger, StudyStore  # noqa: E402

PROFILES = "profiles"
"""What comes after the stages."""

FAILED = 1
"""Exit code of ``compare`` where some column has no numbers, or where it could not go on."""

STARTS = 3
"""Of a stage in one run, while it ends with work left that another start would do."""


def main() -> int:
    options = _options()
    options.storage.mkdir(parents=True, exist_ok=True)
    kinds = [kind for kind in KINDS if kind in options.stages]
    chosen = [*stages(options.clips, kinds, tiny=options.tiny)]
    if options.what == "plan":
        show(chosen, options.storage, options.slots)
        return 0
    # The page shows all that the folder holds, whichever stages are run now.
    every = [*stages(packaged_clips(), tiny=options.tiny)]
    if options.what == "take":
        taken = take(every, options.storage, HERE / "results")
        write(every, HERE / "results", HERE / "RESULTS.md")
        print(f"Taken: {', '.join(taken) or 'nothing, no stage is finished'}")
        return 0
    code, page = 0, options.storage / "RESULTS.md"
    write(every, options.storage, page)
    for stage in chosen:
        ended = run_stage(stage, options)
        write(every, options.storage, page)
        code = ended or code
        if ended not in (0, FAILED):
            break
    if code in (0, FAILED) and PROFILES in options.stages:
        _profile(options)
        write(every, options.storage, page)
    print(f"Results so far: {page}", flush=True)
    return code


def run_stage(stage: Stage, options: argparse.Namespace) -> int:
    """Train and score a stage; its command, seconds and exit code go to ``stages.jsonl``.

    Returns:
        0 also where some columns have no numbers: they are reported with the reason. `FAILED` where work is
        left after `STARTS`, or scoring failed: the next stage may go on. Anything else: stopped.
    """
    storage = options.storage
    further = [f"tracking.uri=sqlite:///{storage}/mlflow.db"]
    if options.slots:
        further.append(f"slots.count={options.slots}")
    if options.gpus_per_slot is not None:
        further.append(f"slots.gpus={options.gpus_per_slot:g}")
    command = [sys.executable, "-m", "orchestrator", *stage.arguments(storage, further)]
    print(f"{stage.report}: {' '.join(command[1:])}", flush=True)
    began, report = time.time(), storage / "reports" / stage.report / "comparison.json"
    for start in range(1, STARTS + 1):
        code = call(command, {**os.environ, "PYTHONPATH": str(ROOT)})
        if code != FAILED:
            break
        if not is_unfinished(stage, storage):
            code = 0
            break
        print(f"{stage.report}: not finished (start {start} of {STARTS})", flush=True)
    if code == 0 and stage.to is not None:
        try:
            transfer(stage, storage, Comparison.from_json(report.read_text()), options.processes)
        except Exception:
            traceback.print_exc()
            code = FAILED
    line: dict[str, Any] = {"stage": stage.report, "command": command[1:]}
    line |= {"seconds": round(time.time() - began, 1), "code": code}
    add_to_log(storage, line | {"machine": machine(_accelerator(options))})
    return code


def _accelerator(options: argparse.Namespace) -> str | None:
    if not options.gpus_per_slot:
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def is_unfinished(stage: Stage, storage: Path) -> bool:
    """Whether the records lack something that the same command would train or score."""
    plan = stage.plan(storage)
    return find_work(plan, StudyStore(str(storage), plan.base.study.name), Ledger(str(storage))).anything


def call(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end; Ctrl-C and SIGTERM are handed on to it, so that it can stop in its own time.

    Returns:
        its exit code; negative where a signal ended it.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def hand_on(number: int, _: object) -> None:
        if running:
            running[0].send_signal(number)
        else:
            early.append(number)

    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        running.append(process)
        for number in early:
            process.send_signal(number)
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _profile(options: argparse.Namespace) -> None:
    """Seconds and memory of a cell of every column, alone on its device."""
    device = "cuda" if options.gpus_per_slot else "cpu"
    for stage in stages(options.clips, ("tuned", "grouped"), tiny=options.tiny):
        print(f"{stage.report}: seconds and memory of a cell", flush=True)
        profile(stage, options.storage, device, 1 if options.gpus_per_slot else options.processes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("run", "plan", "take"), default="run")
    parser.add_argument(
        "--storage", type=lambda text: Path(text).absolute(), required=True, help="all records"
    )
    parser.add_argument("--slots", type=int, help="workers; as many as the machine has")
    parser.add_argument("--gpus-per-slot", type=float, help="share of a GPU that a worker gets; none without")
    parser.add_argument("--clips", type=_words, default=packaged_clips(), help="such as symbols")
    parser.add_argument(
        "--stages", type=_words, default=(*KINDS, PROFILES), help=", ".join((*KINDS, PROFILES))
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of scoring and profiles")
    parser.add_argument("--tiny", action="store_true", help="try everything out in minutes")
    return parser.parse_args()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main())
