"""Errors of study files and of reruns that do not fit what is stored."""

from mmap_model.errors import InputError


class StudyError(InputError):
    """A study file, an override, or a rerun that cannot be."""
