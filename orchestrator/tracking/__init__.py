"""Write-behind tracking with MLflow. See README.md."""

from orchestrator.tracking.check import DEFAULT_URI, TrackingError, check_tracking, default_uri
from orchestrator.tracking.tracker import NoTracker, Tracker

__all__ = ["DEFAULT_URI", "NoTracker", "Tracker", "TrackingError", "check_tracking", "default_uri"]
