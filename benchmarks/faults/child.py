"""Plays the faults of one group, one after the other, in a process of their own."""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from pathlib import Path

from catalogue import FAULTS, Place
from kinds.base import end_drivers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="gets a line of JSON per fault")
    args = parser.parse_args()
    groups = {FAULTS[name].group for name in args.names}
    assert len(groups) == 1, groups
    group = groups.pop()
    place = Place(args.folder, args.folder / f"control-{group}", args.folder / f"empty-{group}.db")
    place.control.mkdir(parents=True, exist_ok=True)
    make_database(place.database)
    os.environ["STAND_IN"] = str(place.control)
    if group in ("shared", "stores"):
        share_ray()
    for name in args.names:
        began = time.monotonic()
        try:
            found = FAULTS[name].injure(place)
        except Exception:
            found = {"error": traceback.format_exc(limit=-16)}
        finally:
            end_drivers()
        found = {"fault": FAULTS[name].name, **found, "seconds": round(time.monotonic() - began, 1)}
        with args.out.open("a") as file:
            file.write(json.dumps({"name": name, **found}) + "\n")


def make_database(path: Path) -> None:
    from mlflow import MlflowClient

    path.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)


def share_ray() -> None:
    from orchestrator.slots import environment

    environment.prepare()
    from orchestrator.slots.cluster import start_ray

    assert start_ray(slots=2, cpus=1, gpus=0)


if __name__ == "__main__":
    main()
