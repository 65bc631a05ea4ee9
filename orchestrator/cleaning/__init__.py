"""What lies in a storage, what of it nobody needs, and removing that. Imports neither Ray nor torch."""

from orchestrator.cleaning.item import CATEGORIES, Removable
from orchestrator.cleaning.remove import remove
from orchestrator.cleaning.survey import StudyInfo, Survey, survey

__all__ = ["CATEGORIES", "Removable", "StudyInfo", "Survey", "remove", "survey"]
