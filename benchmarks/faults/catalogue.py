"""All faults, in the order of the table."""

from __future__ import annotations

from importlib import import_module

from kinds.base import FAULTS, Place

for _kind in (
    *("processes", "signals", "leases", "trackers", "servers"),
    *("storages", "records", "cells", "limits"),
):
    import_module(f"kinds.{_kind}")

__all__ = ["FAULTS", "Place"]
