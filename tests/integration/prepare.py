"""Prepares a store as its own process, to be killed: ``prepare.py ROOT FOLDER``; prints the store's hash."""

from __future__ import annotations

import sys
from pathlib import Path

from mmap_model.data import DatasetSpec
from mmap_model.data.prepared import plan_store, write_store
from mmap_model.data.sources import open_source

if __name__ == "__main__":
    source = open_source(DatasetSpec(name="folder", root=sys.argv[1]))
    plan = plan_store(source, side=16, part_images=4)
    print(write_store(source, Path(sys.argv[2]), plan, workers=2))
