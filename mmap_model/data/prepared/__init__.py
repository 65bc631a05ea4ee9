"""Prepared stores: images laid out once for fast, shared reading. Importing this does not import torch."""

from mmap_model.data.prepared.layout import StorePlan
from mmap_model.data.prepared.parts import PartWritten
from mmap_model.data.prepared.remote import RemoteFiles, is_remote, upload
from mmap_model.data.prepared.store import LocalFiles, Store
from mmap_model.data.prepared.writer import plan_store, verify_store, write_store

__all__ = [
    "LocalFiles",
    "PartWritten",
    "RemoteFiles",
    "Store",
    "StorePlan",
    "is_remote",
    "plan_store",
    "upload",
    "verify_store",
    "write_store",
]
