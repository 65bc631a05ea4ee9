"""Preparing a store, in a process of its own that never imports torch; prints one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import memory

from mmap_model.data.dataset import DatasetSpec
from mmap_model.data.prepared import LocalFiles, Store, plan_store, write_store
from mmap_model.data.sources import open_source

SIZE = 224


def main() -> None:
    """What ``data prepare`` does, without its progress bar: list, decode where needed, write."""
    given = json.loads(sys.argv[1])
    clock = memory.Clock()
    source = open_source(DatasetSpec(name="folder", root=given["root"]))
    plan = plan_store(source, side=SIZE, evaluated=None if given["evaluation"] else frozenset())
    write_store(source, Path(given["store"]), plan, workers=given["workers"])
    clock.lap()
    stored = Store(LocalFiles(Path(given["store"])))
    print(json.dumps({"seconds": clock.laps(), "bytes": stored.bytes, "sha256": stored.sha256}))


if __name__ == "__main__":
    main()
