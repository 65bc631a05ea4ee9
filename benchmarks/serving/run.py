"""How much of the bare image tower's speed is left when a winner labels files, or answers requests?

    uv run python benchmarks/serving/run.py --only predict

Makes a ViT-B/16 with random weights and photographs in a temporary folder, measures the cases in turns, and
writes them into results.json beside this file; those that were not measured stay as they are there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from pathlib import Path

import torch

from orchestrator.study.machine import this_machine
from orchestrator.work.provenance import provenance

CASES = tuple(path.stem.removesuffix("_case") for path in sorted(Path(__file__).parent.glob("*_case.py")))
"""A module ``NAME_case.py`` each, with ``measure(device)``."""

RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CASES, help="this case alone")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for case in CASES if args.only is None else (args.only,):
        before = os.getloadavg()
        found = importlib.import_module(f"{case}_case").measure(args.device)
        results[case] = {
            **found,
            "device": torch.cuda.get_device_name(args.device) if args.device != "cpu" else "cpu",
            "cores": this_machine().cores,
            "load_average": {"before": before, "after": os.getloadavg()},
            **provenance(),
        }
        print(case, json.dumps(results[case], indent=1))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
