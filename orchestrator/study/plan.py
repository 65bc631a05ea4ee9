"""A study made concrete: checked against backbone, data and machine before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mmap_model.architecture import Architecture, check_known, read_architecture
from mmap_model.backbone_identity import fingerprint_of, require_weights, weight_groups
from mmap_model.backbone_spec import counted_parameters
from mmap_model.cells import Cell, Configuration, Point, check_recipe
from mmap_model.class_texts import ClassTexts, check_class_texts
from mmap_model.configuration import Seeds, Split
from mmap_model.data import Dataset, DatasetSummary, open_dataset
from mmap_model.data.check.shots import Shots, nothing_to_test, scarce
from mmap_model.data.draws import is_test_given
from mmap_model.errors import InputError
from mmap_model.grouping import check_probe
from mmap_model.methods import get_method
from mmap_model.plain import to_plain
from orchestrator.slots.environment import joins_cluster
from orchestrator.study.draws import check_fixed_lists
from orchestrator.study.errors import StudyError
from orchestrator.study.load import build_study, read_source
from orchestrator.study.machine import SlotLayout, lay_out, this_machine
from orchestrator.study.model import Study
from orchestrator.study.probe_interval import check_interval, labelled_images, with_fitting_interval
from orchestrator.study.sampler import check_needs, check_space, kind_of
from orchestrator.study.source import override
from orchestrator.work.inputs import Inputs
from orchestrator.work.item import WorkItem
from search_spaces import SearchSpace, Size


@dataclass(frozen=True)
class StudyPlan:
    """What a driver needs to run a study.

    Attributes:
        study: the validated study.
        architecture: of its backbone.
        data: tasks, class lists and manifest of its dataset.
        dataset: the same, opened.
        space: its search space, valid by construction.
        size: how many points that holds.
        trials: configurations to try, no more than the space holds.
        first: Optuna parameters of the points to try first, in order.
        slots: how many workers with what each; None on a cluster, where Ray decides.
    """

    study: Study
    architecture: Architecture
    data: DatasetSummary
    dataset: Dataset = field(repr=False, compare=False)
    space: SearchSpace
    size: Size
    trials: int
    first: tuple[dict[str, Any], ...]
    slots: SlotLayout | None

    @property
    def cells_per_trial(self) -> int:
        return len(self.study.splits) * len(self.study.seeds)

    @cached_property
    def backbone_parameters(self) -> int:
        """Of the whole CLIP, unused vocabulary left out: what shares are relative to."""
        return counted_parameters(self.study.backbone)

    @cached_property
    def fingerprint(self) -> str:
        """Of the backbone's weights (may read them, or load them once per machine)."""
        return fingerprint_of(self.study.backbone)

    @cached_property
    def test_images(self) -> Literal["drawn", "given"]:
        """``given`` if lists, published or fixed, say which images test at every split and seed."""
        if self.study.protocol == "paper":
            return "drawn"
        draws = {(split, seeds.draw) for split in self.study.splits for seeds in self.study.seeds}
        return "given" if all(is_test_given(self.dataset, *draw) for draw in draws) else "drawn"

    @property
    def scarce_classes(self) -> int:
        """Classes of all tasks with fewer images than ``Study.label_budget`` says, where shots are drawn."""
        shots = _drawn_shots(self.study)
        if shots is None:
            return 0
        wanted = Shots(largest=shots, protocol=self.study.protocol)
        return sum(scarce(counts, wanted) for counts in self.data.images_per_class)

    @cached_property
    def known_from_dataset(self) -> dict[str, Any]:
        """Fields of the cells that their dataset decides: records of earlier versions have none."""
        large = self.dataset.has_images_of(4 * self.architecture.image_size)
        return {"test_images": self.test_images, "large_images": large}

    def cell(self, configuration: Configuration, split: Split, seeds: Seeds, **fields: Any) -> Cell:
        """The cell of a configuration in this study; ``fields`` are further ones of Cell."""
        study = self.study
        given = {
            "protocol": study.protocol,
            "largest_shots": study.shots_before_validation,
            "largest_percent": study.percent_before_validation,
            **self.known_from_dataset,
            "precision": study.precision,
            "dataset": self.data.manifest,
            "backbone": self.fingerprint,
        }
        return Cell(configuration=configuration, split=split, seeds=seeds, **{**given, **fields})

    @cached_property
    def inputs(self) -> Inputs:
        """The data and the weights by content (reads some images)."""
        return Inputs.of(self.dataset, self.fingerprint, weight_groups(self.study.backbone))

    @cached_property
    def _sent_inputs(self) -> dict[str, Any]:
        return self.inputs.short().to_dict()

    def work_item(self, point: Point, **fields: Any) -> WorkItem:
        """The work of one point on this study's splits and seeds; ``fields`` are further ones of WorkItem.

        Everything that decides the cells' keys is set here, so that all commands speak of the same cells.
        """
        study = self.study
        given = {
            "study": study.name,
            "splits": study.splits,
            "seeds": study.seeds,
            "protocol": study.protocol,
            "largest_shots": study.shots_before_validation,
            "largest_percent": study.percent_before_validation,
            **self.known_from_dataset,
            "precision": study.precision,
            "dataset": to_plain(study.dataset),
            "backbone": to_plain(study.backbone),
            "storage": study.storage,
            "fuse": study.fuse,
            "inputs": self._sent_inputs,
        }
        return WorkItem.of(point, **{**given, **fields})


def plan_study(study: Study) -> StudyPlan:
    """Check a study against its backbone, its data and this machine.

    Raises:
        InputError: naming the key, the value and what to change.
    """
    dataset = _open(study)
    architecture = read_architecture(study.backbone.model)
    get_method(study.method).require_tower(architecture)
    data = dataset.summary
    check_fixed_lists(study, dataset)
    _check_images(study, data)
    study = with_fitting_interval(study, dataset)
    tasks = len(data.tasks)
    if study.grouping is not None:
        check_probe(study.grouping, architecture)
    for split in study.splits:
        check_recipe(study.method, study.recipe, split)
    averaged = study.recipe.templates_of([task.name for task in data.tasks]) or []
    for template, names in {
        (t, task.classes) for task, own in zip(data.tasks, averaged, strict=False) for t in own
    }:
        check_known(architecture, [template], "recipe.templates")
        check_class_texts(ClassTexts(template, "recipe.templates"), names, architecture)
    space = SearchSpace(
        study.spaces(),
        study.point,
        architecture=architecture,
        tasks=tasks,
        max_params=study.search.max_params,
        classes=[task.classes for task in data.tasks],
        images=_most_labelled(study, dataset),
    )
    for texts in sorted(space.texts(), key=lambda texts: -texts.prompts):
        check_class_texts(texts, [name for task in data.tasks for name in task.classes], architecture)
    check_interval(study, dataset, space)
    check_needs(study.search.sampler)
    if not kind_of(study.search.sampler).copes:
        check_space(study.search.sampler, space.asked())
    size = space.size()
    if study.search.sampler == "grid" and size.continuous:
        next(space.points())
    bounded = not size.continuous and size.exact
    return StudyPlan(
        study=study,
        architecture=architecture,
        data=data,
        dataset=dataset,
        space=space,
        size=size,
        trials=min(study.search.trials, size.points) if bounded else study.search.trials,
        first=_first(study, space),
        slots=None if joins_cluster() else lay_out(study.slots, this_machine()),
    )


def load_plan(name_or_path: str, overrides: Iterable[str] = ()) -> StudyPlan:
    """``load_study`` and ``plan_study``, with every error located in the file."""
    source = override(read_source(name_or_path), overrides)
    study = build_study(source)
    try:
        return plan_study(study)
    except InputError as error:
        raise source.located(error) from None


def _open(study: Study) -> Dataset:
    """The dataset. One error says what is missing of data and weights together."""
    try:
        return open_dataset(study.dataset)
    except InputError as error:
        missing = error
    try:
        require_weights(study.backbone)
    except InputError as error:
        raise StudyError(
            f"neither the data nor the weights are there:\n"
            f"data, {missing.where}: {missing.problem}\n"
            f"weights, {error.where}: {error.problem}",
            fix=f"data: {missing.fix}\nweights: {error.fix}",
        ) from missing
    raise missing


def _first(study: Study, space: SearchSpace) -> tuple[dict[str, Any], ...]:
    points = [space.preset()] if study.search.preset else []
    for index, values in enumerate(study.search.enqueue):
        params = space.params(values, f"search.enqueue.{index}")
        if params not in points:
            points.append(params)
    return tuple(points)


def _drawn_shots(study: Study) -> int | None:
    """The most shots, where draws take them from all images of a class; None where lists or shares decide."""
    if study.dataset.lists is not None or study.dataset.test_source == "official":
        return None
    return study.shots_before_validation


def _check_images(study: Study, data: DatasetSummary) -> None:
    shots = _drawn_shots(study)
    if shots is None:
        return
    for task, counts in zip(data.tasks, data.images_per_class, strict=True):
        if (problem := nothing_to_test(task.name, counts, shots)) is not None:
            raise StudyError(
                problem,
                where="splits" if study.largest_shots is None else "largest_shots",
                fix=f"use fewer than {max(counts)} shots, or add images",
            )


def _most_labelled(study: Study, dataset: Dataset) -> list[int] | None:
    """Labelled images of each task at the largest split, for methods that train something for every one."""
    method = get_method(study.method)
    if not (method.class_bound and method.fits):
        return None
    return max((labelled_images(study, dataset, split) for split in study.splits), key=sum)
