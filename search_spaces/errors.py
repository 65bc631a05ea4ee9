"""The error of a search space that cannot work."""

from mmap_model.errors import InputError


class SpaceError(InputError):
    """A search space, or a point given to it, that admits nothing valid."""
