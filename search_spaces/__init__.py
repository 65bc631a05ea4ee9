"""Define-by-run search spaces, valid by construction. Imports neither torch nor Optuna."""

from search_spaces.census import Asked
from search_spaces.errors import SpaceError
from search_spaces.grouping import GroupingSpace
from search_spaces.groups import group_range
from search_spaces.mmap_shape import MmapShape
from search_spaces.recipe import Choice, LearningRate, ScaleInit, Schedule
from search_spaces.search_space import SearchSpace, Size, build_search_space
from search_spaces.space import Draft, Limits, Space, build_space, get_space, register, space_names
from search_spaces.suggesters import Suggester, conditional_name, resolved_name

__all__ = [
    "Asked",
    "Choice",
    "Draft",
    "GroupingSpace",
    "LearningRate",
    "Limits",
    "MmapShape",
    "ScaleInit",
    "Schedule",
    "SearchSpace",
    "Size",
    "Space",
    "SpaceError",
    "Suggester",
    "build_search_space",
    "build_space",
    "conditional_name",
    "get_space",
    "group_range",
    "register",
    "resolved_name",
    "space_names",
]
