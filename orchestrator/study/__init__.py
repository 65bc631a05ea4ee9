"""Studies: what a user describes in one file, validated before anything starts. No torch, no Ray."""

from orchestrator.study.errors import StudyError
from orchestrator.study.evaluating import execution
from orchestrator.study.identity import COMPARISON, check_rerun, continued, differences, identity
from orchestrator.study.load import build_study, load_study, packaged_studies, read_source, study_from_plain
from orchestrator.study.model import Slots, Study, Tracking
from orchestrator.study.plan import StudyPlan, load_plan, plan_study
from orchestrator.study.search import Search

__all__ = [
    "COMPARISON",
    "Search",
    "Slots",
    "Study",
    "StudyError",
    "StudyPlan",
    "Tracking",
    "build_study",
    "check_rerun",
    "continued",
    "differences",
    "execution",
    "identity",
    "load_plan",
    "load_study",
    "packaged_studies",
    "plan_study",
    "read_source",
    "study_from_plain",
]
