"""The probe of a grouping: which model measures how the tasks' gradients go together (paper, eq. 8)."""

from __future__ import annotations

from typing import Any

from mmap_model.architecture import Architecture
from mmap_model.cells import Configuration, Point
from mmap_model.configuration import Grouping, Probe
from mmap_model.errors import ConfigurationError, InputError
from mmap_model.methods import get_method

PROBE = "mmap"
"""The method of a probe with a shape of its own: eq. 8 is of the MmAP."""


def probe_configuration(grouping: Grouping, point: Point, *, tasks: int) -> Configuration:
    """What the probe trains: one global MmAP for all tasks.

    It has its own shape and recipe, so that all trials share its result, unless ``grouping.probe.same``
    asks for the trial's.

    Raises:
        ConfigurationError: ``same`` with a method that cannot be probed.
    """
    probe = grouping.probe
    everyone = (tuple(range(tasks)),)
    if not probe.same:
        return Configuration(method=PROBE, settings=_shape(probe), recipe=probe.recipe, partition=everyone)
    shared = get_method(point.method).probed(point.settings)
    if shared is None:
        raise ConfigurationError(
            f"the probe cannot take the shape of method {point.method!r}",
            where="grouping.probe.same",
            fix=f"set it to false, or use method {PROBE}",
        )
    return Configuration(method=point.method, settings=shared, recipe=point.recipe, partition=everyone)


def check_probe(grouping: Grouping, architecture: Architecture) -> None:
    """Refuse a probe whose own shape does not fit the backbone.

    Raises:
        ShapeError: naming the key under ``grouping.probe``.
    """
    if grouping.mode != "gradient" or grouping.probe.same:
        return
    try:
        get_method(PROBE).require(_shape(grouping.probe), architecture)
    except InputError as error:
        raise type(error)(error.problem, where=f"grouping.probe.{error.where}", fix=error.fix) from None


def _shape(probe: Probe) -> Any:
    """Settings of the probe's method."""
    return get_method(PROBE).Settings(
        prompt_length=probe.prompt_length,
        source_rows=probe.source_rows,
        source_cols=probe.source_cols,
        scale_init=probe.scale_init,
        modules="group",
    )
