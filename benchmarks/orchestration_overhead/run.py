"""What does a trial cost beside its work? The same trials, textbook recipe and resident slots, in one run.

python benchmarks/orchestration_overhead/run.py [--trials 12]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import workload  # noqa: E402

from orchestrator.slots import environment  # noqa: E402
from orchestrator.work.provenance import provenance  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    # Both ways get the same settings: a short poll of Train's controller helps the textbook recipe most.
    environment.prepare()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    found = {name: measure(name, arguments.trials) for name in ("resident", "textbook")}
    ratio = found["textbook"]["overhead_per_trial_s"] / found["resident"]["overhead_per_trial_s"]
    result = {
        "question": "seconds that a trial costs beside its work, after start-up",
        "command": "python benchmarks/orchestration_overhead/run.py",
        "trials": arguments.trials,
        "work_per_trial_s": workload.EPOCHS * workload.EPOCH_S,
        **found,
        "textbook_over_resident": round(ratio, 1),
        "hardware": {"cores": len(os.sched_getaffinity(0)), "machine": platform.machine()},
        "load_average_after": os.getloadavg(),
        "peak_rss_of_a_process_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **provenance(),
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(name: str, trials: int) -> dict[str, Any]:
    """Run ``name``.py and take the median time between the ends of consecutive trials, less the work."""
    run = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), str(trials)], capture_output=True, text=True, check=False
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if run.returncode or not lines:
        raise SystemExit(f"{name} failed:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}")
    timeline = json.loads(lines[0].removeprefix("RESULT "))
    assert timeline["epochs"] == [workload.EPOCHS] * trials, "every trial did all of its work"
    ended = timeline["ended"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(ended)]
    work = workload.EPOCHS * workload.EPOCH_S
    return {
        "overhead_per_trial_s": round(statistics.median(gaps) - work, 3),
        "mean_overhead_s": round(statistics.mean(gaps) - work, 3),
        "largest_overhead_s": round(max(gaps) - work, 3),
        "first_trial_ended_s": round(ended[0], 2),
        "all_trials_ended_s": round(ended[-1], 2),
    }


if __name__ == "__main__":
    main()
