"""What the ``data`` commands work on: the dataset of a study, or a layout of images by its name."""

from __future__ import annotations

from collections.abc import Iterable

from mmap_model.data import DatasetSpec
from mmap_model.data.sources import get_layout, is_layout, source_names
from mmap_model.errors import DatasetError, nearest
from orchestrator.study.load import build_study, load_study, packaged_studies
from orchestrator.study.model import Study
from orchestrator.study.source import StudySource, override


def load_source(name: str, overrides: Iterable[str]) -> tuple[DatasetSpec, int | None]:
    """The dataset, and the image size of the study's backbone where a study is given.

    Args:
        name: a packaged study, a study file, or a layout such as ``office_home`` or ``file.py:MyLayout``. A
            study goes before a layout of the same name: it says more.
        overrides: ``key=value`` with dotted keys, as of a study.

    Raises:
        InputError: neither, or an override that is not valid.
    """
    study, given = load_study_or_layout(name, overrides)
    if not given:
        return study.dataset, None
    from mmap_model.architecture import read_architecture

    return study.dataset, read_architecture(study.backbone.model).image_size


def load_study_or_layout(name: str, overrides: Iterable[str]) -> tuple[Study, bool]:
    """The study of that name, or one of defaults around a layout; and whether it is a study of the user's.

    Raises:
        InputError: neither, or an override that is not valid.
    """
    if name in packaged_studies() or name.endswith((".yaml", ".yml")):
        return load_study(name, overrides), True
    if not is_layout(name):
        raise DatasetError(
            f"{name!r} is neither a study nor a layout of images",
            where="SOURCE",
            fix=nearest(name, [*source_names(), *packaged_studies()]),
        )
    source = StudySource(name, {"name": get_layout(name, "SOURCE").name, "dataset": {"name": name}})
    return build_study(override(source, overrides)), False
