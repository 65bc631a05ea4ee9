"""What can be wrong with a cluster or with how it is addressed."""

from mmap_model.errors import InputError


class ClusterError(InputError):
    """A cluster that cannot be reached, that refuses, or that does not fit."""
