"""A study as a Ray job: what is sent of it, what its places must be like. No Ray, no torch."""

from orchestrator.submission.paths import check_path, check_paths, for_job, in_ray_job, plan_for_job
from orchestrator.submission.request import SECRETS, make_request, needed_files

__all__ = [
    "SECRETS",
    "check_path",
    "check_paths",
    "for_job",
    "in_ray_job",
    "make_request",
    "needed_files",
    "plan_for_job",
]
