"""From the gradients of a probe to a partition (paper, eq. 8): average, search, say how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from mmap_model.configuration import Grouping, Partition
from mmap_model.data.streams import permutation, stream
from mmap_model.errors import ConfigurationError, NotFiniteError
from mmap_model.grouping.partition import ENUMERATED_TASKS, best_partition, check_groups, winners

SPACES = ("prompts", "parameters")
RESAMPLES = 500
"""Bootstrap resamples of the snapshots."""

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GramStack:
    """Inner products of the tasks' gradients at the snapshots of one probe.

    Attributes:
        steps: [n], optimizer steps, counted from 1 at the start of training.
        spaces: by space (``prompts``, ``parameters``), [n, T, T]: gradients of the tasks' mean cross-entropy.
    """

    steps: npt.NDArray[np.int64]
    spaces: Mapping[str, Matrix]

    @classmethod
    def from_bytes(cls, data: bytes) -> GramStack:
        """Read ``gram.safetensors``."""
        tensors = load(data)
        return cls(tensors["steps"], {space: tensors[space] for space in SPACES})

    def to_bytes(self) -> bytes:
        """Write ``gram.safetensors``."""
        tensors = {"steps": self.steps, **self.spaces}
        return cast(bytes, save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))

    @property
    def tasks(self) -> int:
        """T."""
        return int(self.spaces[SPACES[0]].shape[-1])

    def similarities(self, grouping: Grouping) -> Matrix:
        """Similarity at every snapshot that ``grouping`` averages, [n, T, T].

        Raises:
            ConfigurationError: the probe took no such snapshot.
            NotFiniteError: the probe's gradients are not finite there.
        """
        chosen = self.steps % grouping.snapshot_every == 0
        if not chosen.any():
            last = int(self.steps.max(initial=0))
            raise ConfigurationError(
                f"the probe has no snapshot at a multiple of {grouping.snapshot_every} steps; it took "
                f"{len(self.steps)} up to step {last}",
                where="grouping.snapshot_every",
                fix="use a smaller multiple of grouping.probe.snapshot_every, or more probe epochs",
            )
        gram: Matrix = self.spaces[grouping.space][chosen]
        if not np.isfinite(gram).all():
            raise NotFiniteError(
                "products of the tasks' gradients in the probe are not finite, so they group nothing; lower "
                "grouping.probe.recipe.lr"
            )
        if grouping.similarity == "dot":
            return gram
        norms = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
        products = norms[:, :, None] * norms[:, None, :]
        cosine: Matrix = np.divide(gram, products, out=np.zeros_like(gram), where=products > 0)
        return cosine


@dataclass(frozen=True)
class ResolvedPartition:
    """A partition and the evidence for it; the evidence is None where nothing was measured.

    Attributes:
        partition: the groups.
        score, second, second_score, margin: of the objective, see `Solution`.
        similarity: the averaged similarity, [T, T].
        snapshots: how many were averaged.
        agreement: share of single snapshots whose own best partition is this one.
        bootstrap: share of resamples of the snapshots, with replacement, whose best partition is this one;
            None above 10 tasks, where searching so often would take too long.
        notes: what a report must say beside the partition.
    """

    partition: Partition
    score: float | None = None
    second: Partition | None = None
    second_score: float | None = None
    margin: float | None = None
    similarity: Matrix | None = None
    snapshots: int = 0
    agreement: float | None = None
    bootstrap: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        matrix = None if self.similarity is None else self.similarity.tolist()
        return fields | {"similarity": matrix, "notes": list(self.notes)}


def resolve_partition(
    grouping: Grouping, grams: GramStack | None, *, tasks: int, train_seed: int
) -> ResolvedPartition:
    """The partition that ``grouping`` asks for.

    Args:
        grouping: mode, objective and the rest.
        grams: of the probe; needed by mode ``gradient`` only.
        tasks: T.
        train_seed: keys mode ``random``.

    Raises:
        ConfigurationError: impossible number of groups, a fixed partition of other tasks, no snapshot.
        NotFiniteError: the probe's gradients are not finite.
    """
    if grouping.mode == "single" or tasks == 1:
        return ResolvedPartition((tuple(range(tasks)),))
    if grouping.mode == "fixed":
        assert grouping.partition is not None
        named = sum(len(group) for group in grouping.partition)
        if named != tasks:
            raise ConfigurationError(
                f"the partition names {named} tasks, the dataset has {tasks}",
                where="grouping.partition",
                fix=f"name each of the tasks 0 to {tasks - 1} once",
            )
        return ResolvedPartition(grouping.partition)
    if grouping.mode == "random":
        return ResolvedPartition(random_partition(tasks, grouping.groups, train_seed))
    assert grams is not None and grams.tasks == tasks, "gradient grouping needs this dataset's probe"
    return _measured(grouping, grams.similarities(grouping))


def random_partition(tasks: int, groups: int | None, train_seed: int) -> Partition:
    """A partition drawn uniformly from those with given group sizes, keyed by the train seed.

    The sizes are as equal as can be for ``groups``; without it they are pairs, and one triple if the number
    of tasks is odd, as ``tag_mean`` makes them of up to five tasks.
    """
    if groups is None:
        check_groups(tasks, "tag_mean", None)
        groups = tasks // 2
    check_groups(tasks, "sum", groups)
    order = permutation(tasks, "random partition", tasks, groups, train_seed).tolist()
    chunks = [tuple(sorted(order[start::groups])) for start in range(groups)]
    return tuple(sorted(chunks))


def _measured(grouping: Grouping, stack: Matrix) -> ResolvedPartition:
    similarity = stack.mean(axis=0)
    solution = best_partition(similarity, grouping.objective, groups=grouping.groups)
    single = winners(stack, grouping.objective, groups=grouping.groups)
    bootstrap = None
    if len(similarity) <= ENUMERATED_TASKS:
        picks = stream("bootstrap", len(stack)).integers(0, len(stack), (RESAMPLES, len(stack)))
        resampled = winners(stack[picks].mean(axis=1), grouping.objective, groups=grouping.groups)
        bootstrap = resampled.count(solution.partition) / RESAMPLES
    return ResolvedPartition(
        solution.partition,
        score=solution.score,
        second=solution.second,
        second_score=solution.second_score,
        margin=solution.margin,
        similarity=similarity,
        snapshots=len(stack),
        agreement=single.count(solution.partition) / len(single),
        bootstrap=bootstrap,
        notes=tuple(_notes(grouping, len(similarity), solution.exact)),
    )


def _notes(grouping: Grouping, tasks: int, exact: bool) -> list[str]:
    notes = []
    if grouping.objective == "tag_mean":
        notes.append(_tag_mean_note(tasks))
    elif grouping.groups is not None:
        notes.append(f"the number of groups was set to {grouping.groups}, not measured")
    if not exact:
        notes.append(f"{tasks} tasks are too many for an exact search: the partition is a local optimum")
    return notes


def _tag_mean_note(tasks: int) -> str:
    """A group of four or more scores the average of its splits into pairs and triples, so no more."""
    if tasks <= 3:
        return f"tag_mean puts {tasks} tasks all in one group: what was measured decides nothing"
    if tasks <= 5:
        sizes = {4: "two pairs", 5: "a pair and a triple"}[tasks]
        return (
            f"tag_mean fixes the group sizes by the number of tasks: {sizes} for {tasks}. "
            "Who is together was measured; the number of groups was not"
        )
    return "tag_mean only ever forms pairs and triples: the number of groups is its choice, not a discovery"
