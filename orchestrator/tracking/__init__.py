"""Write-behind tracking, with MLflow or a custom backend. See README.md."""

from orchestrator.tracking.backend import Backend, Connection, Delivery, Page, TrackingError
from orchestrator.tracking.backends import check_tracking, find_backend
from orchestrator.tracking.operations import Operation
from orchestrator.tracking.tracker import NoTracker, Tracker

__all__ = [
    "Backend",
    "Connection",
    "Delivery",
    "NoTracker",
    "Operation",
    "Page",
    "Tracker",
    "TrackingError",
    "check_tracking",
    "find_backend",
]
