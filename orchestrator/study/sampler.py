"""What proposes configurations: the keys ``search.sampler`` and ``search.sampler_options``."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmap_model import references
from mmap_model.errors import nearest
from orchestrator.study.errors import StudyError
from search_spaces import Asked

WHERE, OPTIONS = "search.sampler", "search.sampler_options"
EXAMPLE = "file.py:MySampler"


@dataclass(frozen=True)
class Whole:
    """An option that is a whole number, from ``least`` on."""

    least: int = 1

    def allows(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= self.least

    @property
    def words(self) -> str:
        return f"a whole number, {self.least} or more"


@dataclass(frozen=True)
class Share:
    """An option that is a probability."""

    words = "a number from 0 to 1"

    def allows(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


@dataclass(frozen=True)
class OneOf:
    """An option that is one of a few values."""

    values: tuple[Any, ...] = (True, False)

    def allows(self, value: Any) -> bool:
        return any(value is known or (isinstance(known, str) and value == known) for known in self.values)

    @property
    def words(self) -> str:
        return " or ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in self.values)


Option = Whole | Share | OneOf


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """What is known of a sampler.

    Attributes:
        options: by name, of Optuna's class.
        categorical, conditional: whether it samples such parameters itself, rather than at random.
        several: takes several objectives.
        constraints: heeds constraints.
        needs: module that must be there, and the extra that installs it.
        startup: option that says how many trials are drawn at random first, and its default.
    """

    options: Mapping[str, Option] = field(default_factory=dict)
    categorical: bool = True
    conditional: bool = True
    several: bool = True
    constraints: bool = False
    needs: tuple[str, str] | None = None
    startup: tuple[str, int] | None = None

    @property
    def copes(self) -> bool:
        """Whether it samples every parameter of every space itself."""
        return self.categorical and self.conditional


_FLAG = OneOf()
_GENETIC: Mapping[str, Option] = {
    "population_size": Whole(2),
    "mutation_prob": Share(),
    "crossover_prob": Share(),
    "swapping_prob": Share(),
}

SAMPLERS: Mapping[str, SamplerKind] = {
    "tpe": SamplerKind(
        options={"n_startup_trials": Whole(0), "n_ei_candidates": Whole(), "constant_liar": _FLAG},
        constraints=True,
        startup=("n_startup_trials", 10),
    ),
    "random": SamplerKind(),
    "grid": SamplerKind(),
    "gp": SamplerKind(
        options={"n_startup_trials": Whole(), "deterministic_objective": _FLAG},
        conditional=False,
        constraints=True,
        needs=("torch", ""),
        startup=("n_startup_trials", 10),
    ),
    "qmc": SamplerKind(
        options={"qmc_type": OneOf(("sobol", "halton")), "scramble": _FLAG}, conditional=False
    ),
    "nsga2": SamplerKind(
        options=_GENETIC, conditional=False, constraints=True, startup=("population_size", 50)
    ),
    "nsga3": SamplerKind(
        options={**_GENETIC, "dividing_parameter": Whole()},
        conditional=False,
        constraints=True,
        startup=("population_size", 50),
    ),
    "cmaes": SamplerKind(
        options={
            "n_startup_trials": Whole(),
            "popsize": Whole(2),
            "use_separable_cma": _FLAG,
            "with_margin": _FLAG,
            "lr_adapt": _FLAG,
            "consider_pruned_trials": _FLAG,
        },
        categorical=False,
        conditional=False,
        several=False,
        needs=("cmaes", "samplers"),
        startup=("n_startup_trials", 1),
    ),
}

CUSTOM = SamplerKind()
"""Of a custom class nothing is known."""

CLASSES: Mapping[str, str] = {
    "TPESampler": "tpe",
    "RandomSampler": "random",
    "GPSampler": "gp",
    "QMCSampler": "qmc",
    "NSGAIISampler": "nsga2",
    "NSGAIIISampler": "nsga3",
    "CmaEsSampler": "cmaes",
}
"""Optuna's classes, by which one that is given by its path is known, or one derived from it."""


def is_custom(name: str) -> bool:
    """Whether a sampler is given by the Python path of its class."""
    return references.parse(name) is not None


def kind_of(name: str) -> SamplerKind:
    """What is known of a sampler. Raises StudyError for an unknown name or class."""
    if is_custom(name):
        bases = [base.__name__ for base in custom_class(name).__mro__]
        return next((SAMPLERS[CLASSES[base]] for base in bases if base in CLASSES), CUSTOM)
    if name not in SAMPLERS:
        fix = f"{nearest(name, [*SAMPLERS])}; a custom one is given as my_module:Class or {EXAMPLE}"
        raise StudyError(f"unknown sampler {name!r}", where=WHERE, fix=fix)
    return SAMPLERS[name]


def check_needs(name: str) -> None:
    """Refuse to search with a sampler whose package is missing here. Records are read without it.

    Raises:
        StudyError: with the command that installs it.
    """
    needs = kind_of(name).needs
    if needs is not None and importlib.util.find_spec(needs[0]) is None:
        module, extra = needs
        fix = f"run uv sync --extra {extra}, or pip install {module}" if extra else f"pip install {module}"
        raise StudyError(f"{name} needs the package {module}, which is missing", where=WHERE, fix=fix)


def check_sampler(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown sampler, or options that it does not take.

    Raises:
        StudyError: with the key and what to change.
    """
    kind = kind_of(name)
    if is_custom(name):
        make_custom(name, options, 0)
        return
    for key, value in options.items():
        if key not in kind.options:
            fix = nearest(key, [*kind.options]) if kind.options else "remove it"
            raise StudyError(f"{name} has no option {key!r}", where=f"{OPTIONS}.{key}", fix=fix)
        if not kind.options[key].allows(value):
            fix = f"use {kind.options[key].words}"
            raise StudyError(f"{value!r} is not allowed", where=f"{OPTIONS}.{key}", fix=fix)


def check_space(name: str, asked: Asked) -> None:
    """Refuse a sampler that would leave parameters of this space to chance.

    Optuna's samplers draw what they cannot handle at random, from another sampler, and warn at most.

    Args:
        name: of the sampler.
        asked: what the space asks for.

    Raises:
        StudyError: names the parameters and what to take instead.
    """
    kind = kind_of(name)
    if asked.categorical and not kind.categorical:
        raise StudyError(
            f"{name} cannot choose from lists: it would draw {_listed(asked.categorical)} at random",
            where=WHERE,
            fix=_instead(
                "tpe, gp or nsga2" if not asked.conditional else "tpe", asked.categorical, "ranges of numbers"
            ),
        )
    if asked.conditional and not kind.conditional:
        raise StudyError(
            f"{name} needs the same parameters with the same values in every point: it would draw "
            f"{_listed(asked.conditional)}, which depend on others, at random",
            where=WHERE,
            fix=_instead("tpe", asked.conditional, "one value each"),
        )


def custom_class(name: str) -> Any:
    """The class that a sampler's Python path names.

    Raises:
        StudyError: no such class, or no sampler of Optuna's kind.
    """
    reference = references.parse(name)
    assert reference is not None, "it is given by its path"
    found = references.resolve(reference, where=WHERE, example=EXAMPLE, error=StudyError)
    bases = found.__mro__ if isinstance(found, type) else ()
    if not any(base.__name__ == "BaseSampler" and base.__module__.startswith("optuna.") for base in bases):
        raise StudyError(
            f"{name} is not a sampler",
            where=WHERE,
            fix="make it a class that derives from optuna.samplers.BaseSampler",
        )
    return found


def make_custom(name: str, options: Mapping[str, Any], seed: int) -> Any:
    """A custom sampler.

    Args:
        name: the Python path of its class.
        options: its arguments, besides ``seed``.
        seed: another one for every trial.

    Raises:
        StudyError: it takes no seed, or not these options.
    """
    found = custom_class(name)
    takes = inspect.signature(found).parameters
    if "seed" not in takes:
        raise StudyError(
            f"{name} takes no seed, so a search that was stopped could not go on as it would have",
            where=WHERE,
            fix="give its __init__ a keyword argument seed, an int",
        )
    known = [key for key, kind in takes.items() if key != "seed" and kind.kind is not kind.VAR_KEYWORD]
    loose = any(kind.kind is kind.VAR_KEYWORD for kind in takes.values())
    for key in options:
        if key == "seed" or (key not in known and not loose):
            fix = "set search.seed" if key == "seed" else nearest(key, known) if known else "remove it"
            raise StudyError(f"{name} has no option {key!r}", where=f"{OPTIONS}.{key}", fix=fix)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # several of Optuna's are called experimental
            return found(seed=seed, **options)
    except Exception as error:
        problem = f"{name} cannot be made: {type(error).__name__}: {error}"
        raise StudyError(problem, where=OPTIONS, fix="correct its options") from error


def _instead(samplers: str, names: tuple[str, ...], other: str) -> str:
    return f"use sampler: {samplers}; or give {_listed(names)} {other}"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
