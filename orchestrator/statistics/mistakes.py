"""Which classes are confused with which, and the mistakes made with the most confidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A prediction of one image.

    Attributes:
        cell: key of the cell that made it.
        task: of the image.
        sample: name of the image.
        label, predicted: true and most probable class, by name.
        confidence: probability of the most probable class.
        nll: negative log probability of the truth, nats.
    """

    cell: str
    task: str
    sample: str
    label: str
    predicted: str
    confidence: float
    nll: float

    @property
    def is_right(self) -> bool:
        return self.label == self.predicted


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """A class of a task: images scored and how many of them were right; the same image counts once a seed."""

    task: str
    name: str
    count: int
    right: int

    @property
    def accuracy(self) -> float:
        return self.right / self.count


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Images of the class ``label`` taken for ``predicted``; ``of`` is the number of images of ``label``."""

    task: str
    label: str
    predicted: str
    count: int
    of: int


def class_scores(guesses: Iterable[Guess]) -> list[ClassScore]:
    """By task and class, the worst class of a task first; equal ones by name."""
    count: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    tasks: dict[str, None] = {}
    for guess in guesses:
        tasks.setdefault(guess.task)
        count[guess.task, guess.label] += 1
        right[guess.task, guess.label] += guess.is_right
    found = [ClassScore(task=t, name=c, count=n, right=right[t, c]) for (t, c), n in count.items()]
    order = {task: place for place, task in enumerate(tasks)}
    return sorted(found, key=lambda score: (order[score.task], score.accuracy, score.name))


def confusions(guesses: Iterable[Guess], most: int) -> list[Confusion]:
    """The most frequent confusions of all tasks, the most frequent first; equal ones by task and name."""
    pairs: Counter[tuple[str, str, str]] = Counter()
    labels: Counter[tuple[str, str]] = Counter()
    for guess in guesses:
        labels[guess.task, guess.label] += 1
        if not guess.is_right:
            pairs[guess.task, guess.label, guess.predicted] += 1
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [
        Confusion(task=task, label=label, predicted=predicted, count=count, of=labels[task, label])
        for (task, label, predicted), count in ranked[:most]
    ]


def confident_mistakes(guesses: Iterable[Guess], most: int) -> list[Guess]:
    """Images that were most confidently taken for a wrong class, each once, the most confident first."""
    wrong = (guess for guess in guesses if not guess.is_right)
    ranked = sorted(wrong, key=lambda guess: (-guess.confidence, guess.task, guess.sample, guess.cell))
    found: dict[tuple[str, str], Guess] = {}
    for guess in ranked:
        if len(found) == most:
            break
        found.setdefault((guess.task, guess.sample), guess)
    return list(found.values())
