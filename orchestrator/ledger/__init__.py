"""Durable records on any file system: cells by content, studies by name. See README.md."""

from orchestrator.ledger.cells import DroppedError, Ledger
from orchestrator.ledger.documents import CorruptError
from orchestrator.ledger.driver_lease import DriverLease
from orchestrator.ledger.in_flight import InFlight, batch_key
from orchestrator.ledger.invocation import Invocation
from orchestrator.ledger.lease import Lease, LeaseError
from orchestrator.ledger.storage import Storage, StorageError, check_writable, open_storage
from orchestrator.ledger.study_file import StudyDamaged
from orchestrator.ledger.study_store import StudyStore
from orchestrator.ledger.trial_record import TrialRecord
from orchestrator.ledger.write_behind import WriteBehind

__all__ = [
    "CorruptError",
    "DriverLease",
    "DroppedError",
    "InFlight",
    "Invocation",
    "Lease",
    "LeaseError",
    "Ledger",
    "Storage",
    "StorageError",
    "StudyDamaged",
    "StudyStore",
    "TrialRecord",
    "WriteBehind",
    "batch_key",
    "check_writable",
    "open_storage",
]
