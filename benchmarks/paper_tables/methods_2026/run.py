"""Newer methods beside MmAP: everything there is, on every packaged CLIP, resumable.

    python benchmarks/paper_tables/methods_2026/run.py --storage FOLDER   # this machine as it is
    python … --storage FOLDER --slots 16 --gpus-per-slot 0.0625            # one GPU for 16 slots
    python … --storage FOLDER plan                                         # cells, seconds; starts nothing

The same command resumes. ``--stages`` and ``--clips`` restrict it, ``--tiny`` tries it out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT)]

from estimate import show  # noqa: E402
from stages import KINDS, Stage, stages  # noqa: E402

FAILED = 1
"""Exit code of ``compare`` where some column has no numbers: the others have."""


def main() -> int:
    options = _options()
    options.storage.mkdir(parents=True, exist_ok=True)
    chosen = [*stages(options.clips, options.stages, tiny=options.tiny)]
    if options.what == "plan":
        show(chosen, options.storage, options.slots)
        return 0
    for stage in chosen:
        code = _run(stage, options)
        if code not in (0, FAILED):
            return code
    from page import write

    write(chosen, options.storage, options.storage / "RESULTS.md")
    print(f"Results: {options.storage / 'RESULTS.md'}")
    return 0


def _run(stage: Stage, options: argparse.Namespace) -> int:
    """Train and score a stage; its command, seconds and exit code go to ``stages.jsonl``."""
    storage = options.storage
    further = [f"tracking.uri=sqlite:///{storage}/mlflow.db"]
    if options.slots:
        further.append(f"slots.count={options.slots}")
    if options.gpus_per_slot is not None:
        further.append(f"slots.gpus={options.gpus_per_slot:g}")
    command = [sys.executable, "-m", "orchestrator", *stage.arguments(storage, further)]
    print(f"{stage.report}: {' '.join(command[1:])}", flush=True)
    began = time.time()
    code = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    ).returncode
    if code in (0, FAILED) and stage.to is not None:
        from transfers import transfer

        from orchestrator.compare.comparison import Comparison

        found = Comparison.from_json((storage / "reports" / stage.report / "comparison.json").read_text())
        transfer(stage, storage, found, options.processes)
    line = {"stage": stage.report, "command": command[1:], "seconds": time.time() - began, "code": code}
    with (storage / "stages.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    if code in (0, FAILED) and stage.kind in ("tuned", "grouped"):
        from profiles import profile

        profile(stage, storage, "cuda" if options.gpus_per_slot else "cpu", options.processes)
    return code


def _options() -> argparse.Namespace:
    from clips import packaged_clips

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("run", "plan"), default="run")
    parser.add_argument(
        "--storage", type=lambda text: Path(text).absolute(), required=True, help="all records"
    )
    parser.add_argument("--slots", type=int, help="workers; as many as the machine has")
    parser.add_argument("--gpus-per-slot", type=float, help="share of a GPU that a worker gets; none without")
    parser.add_argument("--clips", type=_words, default=packaged_clips(), help="such as symbols")
    parser.add_argument("--stages", type=_words, default=KINDS, help=", ".join(KINDS))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of scoring and profiles")
    parser.add_argument("--tiny", action="store_true", help="try everything out in minutes")
    return parser.parse_args()


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


if __name__ == "__main__":
    sys.exit(main())
