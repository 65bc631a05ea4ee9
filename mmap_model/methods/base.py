"""The interface of a tuning method, and the registry. Does not import torch: counts must be instant.

A method is a folder: ``__init__.py`` holds its settings, checks and exact parameter count and registers it;
``module.py`` holds the torch part, imported by ``build`` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mmap_model.architecture import Architecture
from mmap_model.configuration import Partition
from mmap_model.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from mmap_model.backbone import Backbone
    from mmap_model.methods.model import TunedModel


class Method(ABC):
    """One way of tuning CLIP on several tasks.

    Attributes:
        name: the registered name.
        Settings: frozen, keyword-only dataclass of the method's own hyper-parameters.
        grouped: needs a partition of the tasks.
        fuses: replicates may be trained as one batch (the backbone stays frozen).
        trains: False when there is nothing to train (zero-shot).
    """

    name: ClassVar[str]
    Settings: ClassVar[type]
    grouped: ClassVar[bool] = False
    fuses: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    @abstractmethod
    def check(self, settings: Any, architecture: Architecture) -> None:
        """Raise ShapeError naming key, value and valid ones unless the settings fit the backbone."""

    @abstractmethod
    def count(self, settings: Any, architecture: Architecture, *, tasks: int, groups: int) -> int:
        """Exact number of trained parameters of one replicate."""

    @abstractmethod
    def build(
        self,
        settings: Any,
        backbone: Backbone,
        *,
        classes: Sequence[Sequence[str]],
        template: str,
        partitions: Sequence[Partition | None],
        train_seeds: Sequence[int],
    ) -> TunedModel:
        """The trainable model of R = len(train_seeds) replicates over T = len(classes) tasks.

        Every trained tensor has a leading replicate axis R; slice r is initialised from ``train_seeds[r]``
        alone.
        """


_REGISTRY: dict[str, Method] = {}


def register(method: Method) -> Method:
    """Add a method under its name. Raises ConfigurationError if the name is taken."""
    if method.name in _REGISTRY:
        raise ConfigurationError(f"method {method.name!r} is registered twice", fix="choose another name")
    _REGISTRY[method.name] = method
    return method


def get_method(name: str, where: str = "method") -> Method:
    """The registered method. Raises ConfigurationError with the nearest known name."""
    if name not in _REGISTRY:
        raise ConfigurationError(f"unknown method {name!r}", where=where, fix=nearest(str(name), _REGISTRY))
    return _REGISTRY[name]


def method_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    return tuple(sorted(_REGISTRY))
