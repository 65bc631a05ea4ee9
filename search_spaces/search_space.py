"""Several spaces composed in order around the fixed part of a study: what a searcher draws points from."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mmap_model.architecture import Architecture
from mmap_model.cells import Point
from mmap_model.class_texts import ClassTexts
from mmap_model.configuration import Grouping, Recipe
from mmap_model.errors import InputError, nearest
from mmap_model.methods import ProblemSize, get_method
from mmap_model.plain import from_plain
from search_spaces.census import Asked, Census, take_census
from search_spaces.errors import SpaceError
from search_spaces.groups import check_grouping, group_range
from search_spaces.space import Draft, Limits, Space
from search_spaces.suggesters import Given, Recorder, Replay, Suggester, unknown_names, walk

ENUMERATED = 100_000
"""Points beyond which spaces that depend on each other are not enumerated further."""


@dataclass(frozen=True)
class Size:
    """How many points a space holds: ``points`` over its discrete parameters, times its ``continuous`` ones.

    ``exact`` is False when counting stopped at ``points``.
    """

    points: int
    continuous: tuple[str, ...] = ()
    exact: bool = True


class SearchSpace:
    """The spaces of a study, valid by construction.

    Args:
        spaces: composed in this order; none at all is a space of one point.
        fixed: the point they start from.
        architecture, tasks: the backbone and the number of tasks.
        max_params: bound on the trained parameters of one replicate, or None.
        classes: class names of each task; methods that train something for every class need them.
        images: labelled images of each task; methods that train something for every one of them need them.
        where: keys of the spaces in the study, for messages.

    Raises:
        InputError: unusable options, a fixed part that does not fit, or a budget that admits nothing.
    """

    def __init__(
        self,
        spaces: Sequence[Space],
        fixed: Point,
        *,
        architecture: Architecture,
        tasks: int,
        max_params: int | None = None,
        classes: Sequence[Sequence[str]] | None = None,
        images: Sequence[int] | None = None,
        where: Sequence[str] | None = None,
    ) -> None:
        self.spaces = tuple(spaces)
        self.fixed = fixed
        self.method = get_method(fixed.method)
        self.method.require_tower(architecture)
        self._draft: Draft = fixed.to_dict()
        self._where = tuple(where or (f"space.{i}" for i in range(len(self.spaces))))
        self.limits = Limits(
            architecture=architecture,
            tasks=tasks,
            groups=self._most_groups(tasks),
            max_params=max_params,
            classes=None if classes is None else tuple(tuple(names) for names in classes),
            images=None if images is None else tuple(images),
        )
        self._check()

    def suggest(self, trial: Suggester) -> Point:
        """Draw a point; ``trial`` is an Optuna trial or any other suggester."""
        return self._run(trial)[0]

    def replay(self, params: Mapping[str, Any]) -> Point:
        """The point that was drawn with these parameters (full Optuna names)."""
        return self.suggest(Replay(params))

    def params(self, values: Mapping[str, Any], where: str = "search.enqueue") -> dict[str, Any]:
        """Optuna parameters of the point with these resolved values; what is not given is as in ``preset``.

        Raises:
            SpaceError: a value outside the space (naming those inside), or a name it does not have.
        """
        given = Given(values, self._defaults(), where)
        point, recorder = self._run(given)
        if unused := given.unused():
            raise unknown_names(unused, sorted(recorder.values), where)
        self._check_point(point, where)
        return recorder.params

    def preset(self) -> dict[str, Any]:
        """Optuna parameters of the paper's point, each value the nearest that the space offers.

        The paper's values are the defaults of the method's settings, of Recipe and of Grouping.
        """
        return self.params({})

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Resolved names and values of recorded Optuna parameters."""
        return self._run(Replay(params))[1].values

    def points(self) -> Iterator[tuple[dict[str, Any], Point]]:
        """Every point with its Optuna parameters, in order: the grid.

        Raises:
            SpaceError: a parameter is continuous.
        """
        for (point, recorder), continuous in walk(self._run):
            if continuous:
                raise SpaceError(
                    f"{continuous[0]} is continuous and has no grid",
                    where="search.sampler",
                    fix=f"give the space of {continuous[0]} a list of choices, or use sampler: tpe",
                )
            yield dict(recorder.params), point

    def size(self) -> Size:
        """Number of points; spaces that depend on each other are counted up to ``ENUMERATED``."""
        if all(space.independent for space in self.spaces):
            total, names = 1, []
            for space in self.spaces:
                runs = [names_ for _, names_ in walk(lambda t, s=space: self._alone(t, (s,)))]  # type: ignore[misc]
                total *= len(runs)
                names += list(dict.fromkeys(n for found in runs for n in found))
            return Size(total, tuple(names))
        found = list(islice(walk(lambda t: self._alone(t, self.spaces)), ENUMERATED + 1))
        names = list(dict.fromkeys(n for _, found_names in found for n in found_names))
        return Size(min(len(found), ENUMERATED), tuple(names), exact=len(found) <= ENUMERATED)

    def asked(self) -> Asked:
        """What a sampler has to cope with, by all points, the first ``ENUMERATED`` of dependent spaces."""
        independent = all(space.independent for space in self.spaces)
        groups = [(space,) for space in self.spaces] if independent else [self.spaces]
        found = []
        for spaces in groups:
            runs = walk(lambda trial, s=spaces: self._census(trial, s))  # type: ignore[misc]
            found.append(take_census(asked for asked, _ in islice(runs, ENUMERATED)))
        return Asked(
            categorical=tuple(name for part in found for name in part.categorical),
            conditional=tuple(name for part in found for name in part.conditional),
        )

    def choices(self, key: str) -> list[Any]:
        """Every value that a dotted key of the point can have; of a continuous one the middle."""
        section, _, name = key.partition(".")
        spaces = [s for s in self.spaces if key in s.writes()]
        drafts = islice(walk(lambda t: self._alone(t, spaces)), ENUMERATED)
        return list(dict.fromkeys(draft[section][name] for draft, _ in drafts))

    def texts(self) -> set[ClassTexts]:
        """What its points make of class names, those of the probe included."""
        keys = ("settings.", "recipe.template")
        spaces = [s for s in self.spaces if any(key.startswith(keys) for key in s.writes())]
        drafts = islice(walk(lambda t: self._alone(t, spaces)), ENUMERATED)
        points = (Point.from_dict(draft) for draft, _ in drafts)
        found = {self.method.texts(point.settings, point.recipe.template) for point in points}
        grouping = self.fixed.grouping
        if grouping is not None and grouping.mode == "gradient" and not grouping.probe.same:
            found.add(ClassTexts(grouping.probe.recipe.template, "grouping.probe.recipe.template"))
        return found

    def parameters(self, point: Point) -> tuple[int, int]:
        """Exact trained parameters of one replicate, at the fewest and the most groups that can come out."""
        return self._counts(point, group_range(point.grouping, self.limits.tasks))

    def parameter_range(self) -> tuple[int, int]:
        """The fewest and the most parameters of any point."""
        if not all(space.independent for space in self.spaces):
            drafts = islice(walk(lambda t: self._alone(t, self.spaces)), ENUMERATED)
            counts = [self.parameters(Point.from_dict(draft)) for draft, _ in drafts]
            return min(c[0] for c in counts), max(c[1] for c in counts)
        ranges = {group_range(p.grouping, self.limits.tasks) for p in self._varied("grouping.")}
        groups = min(r[0] for r in ranges), max(r[1] for r in ranges)
        least, most = zip(*(self._counts(p, groups) for p in self._varied("settings.")), strict=True)
        return min(least), max(most)

    def _counts(self, point: Point, groups: tuple[int, int]) -> tuple[int, int]:
        limits = self.limits
        fewest, most = (
            self.method.parameters(
                point.settings,
                limits.architecture,
                ProblemSize(tasks=limits.tasks, groups=number, classes=limits.classes, images=limits.images),
            )
            for number in groups
        )
        return fewest, most

    def _varied(self, section: str) -> Iterator[Point]:
        """Points over the spaces that write to one section, the other sections as fixed."""
        spaces = [s for s in self.spaces if any(key.startswith(section) for key in s.writes())]
        for draft, _ in walk(lambda t: self._alone(t, spaces)):
            yield Point.from_dict(draft)

    def _run(self, trial: Suggester) -> tuple[Point, Recorder]:
        recorder = Recorder(trial)
        draft = self._alone(recorder, self.spaces)
        return Point.from_dict(draft), recorder

    def _alone(self, trial: Suggester, spaces: Sequence[Space]) -> Draft:
        draft = copy.deepcopy(self._draft)
        for space in spaces:
            space.suggest(trial, draft, self.limits)
        return draft

    def _census(self, trial: Suggester, spaces: Sequence[Space]) -> dict[str, Any]:
        census = Census(trial)
        self._alone(census, spaces)
        return census.found

    def _most_groups(self, tasks: int) -> int:
        counts = [space.most_groups(self._draft, tasks) for space in self.spaces]
        return max((c for c in counts if c is not None), default=group_range(self.fixed.grouping, tasks)[1])

    def _defaults(self) -> dict[str, Any]:
        """The paper's values by resolved name, for every key that a space writes."""
        sections = {"settings": self.method.Settings, "recipe": Recipe, "grouping": Grouping}
        found = {}
        for key in (key for space in self.spaces for key in space.writes()):
            section, _, name = key.partition(".")
            found[name] = getattr(sections[section](), name)
        return found

    def _check(self) -> None:
        self._check_keys()
        if self.fixed.grouping is not None:
            check_grouping(self.fixed.grouping, self.limits.tasks)
        for space, where in zip(self.spaces, self._where, strict=True):
            space.check(self._draft, self.limits, where)
        if not any(key.startswith("settings.") for space in self.spaces for key in space.writes()):
            self._check_point(self.fixed, "settings")
        for space, where in zip(self.spaces, self._where, strict=True):
            if not space.independent:
                continue
            for draft, _ in islice(walk(lambda t, s=space: self._alone(t, (s,))), 1000):  # type: ignore[misc]
                self._check_draft(draft, where)
        self.preset()
        for space, where in zip(self.spaces, self._where, strict=True):
            if any(key.startswith("settings.") for key in space.writes()):
                self._check_settings(space, where)

    def _check_keys(self) -> None:
        sections = {"settings": self.method.Settings, "recipe": Recipe, "grouping": Grouping}
        written: dict[str, str] = {}
        for space, where in zip(self.spaces, self._where, strict=True):
            for key in space.writes():
                section = key.partition(".")[0]
                known = [f"{s}.{f.name}" for s, cls in sections.items() for f in dataclasses.fields(cls)]
                if key not in known or (section == "grouping" and self.fixed.grouping is None):
                    raise SpaceError(
                        f"sets {key!r}, which method {self.method.name!r} does not have",
                        where=where,
                        fix=nearest(key, known),
                    )
                if key in written:
                    raise SpaceError(
                        f"sets {key!r}, which {written[key]} sets already",
                        where=where,
                        fix="remove one of the two spaces",
                    )
                written[key] = where

    def _check_draft(self, draft: Draft, where: str) -> None:
        try:
            point = Point.from_dict(draft)
        except InputError as error:
            raise SpaceError(
                f"offers a point that cannot be: {error.problem}", where=where, fix=error.fix
            ) from error
        if point.grouping is None and self.method.needs_partition(point.settings):
            raise SpaceError(
                "offers a point whose tasks are grouped, and the study says nothing of groups",
                where=where,
                fix="run one study for each regime: settings.regime=grouped brings the keys of grouping",
            )

    def _check_settings(self, space: Space, where: str) -> None:
        """Every value that a space gives to settings fits the backbone, the others being as in the preset."""
        defaults = self._defaults()

        def around(trial: Suggester) -> Draft:
            draft = copy.deepcopy(self._draft)
            for other in self.spaces:
                other.suggest(trial if other is space else Given({}, defaults, where), draft, self.limits)
            return draft

        for draft, _ in islice(walk(around), 1000):
            try:
                self.method.require(Point.from_dict(draft).settings, self.limits.architecture)
            except InputError as error:
                problem = f"offers a point that cannot be: {error.where}: {error.problem}"
                raise SpaceError(problem, where=where, fix=error.fix) from error

    def _check_point(self, point: Point, where: str) -> None:
        try:
            self.method.require(point.settings, self.limits.architecture)
        except InputError as error:
            raise type(error)(error.problem, where=f"{where}.{error.where}", fix=error.fix) from error
        most = self.parameters(point)[1]
        if self.limits.max_params is not None and most > self.limits.max_params:
            raise SpaceError(
                f"max_params={self.limits.max_params} is exceeded: this point has {most} parameters",
                where="search.max_params",
                fix=f"allow {most} or more, or make the prompts smaller",
            )


def build_search_space(
    items: Sequence[Mapping[str, Any]],
    fixed: Point | Mapping[str, Any],
    *,
    architecture: Architecture,
    tasks: int,
    max_params: int | None = None,
) -> SearchSpace:
    """A search space from a study's ``space`` list: each item a ``name`` and that space's options."""
    from search_spaces.space import build_space

    spaces = []
    for index, item in enumerate(items):
        options = {k: v for k, v in item.items() if k != "name"}
        spaces.append(build_space(item["name"], options, f"space.{index}"))
    point = fixed if isinstance(fixed, Point) else from_plain(Point, dict(fixed), "study")
    return SearchSpace(spaces, point, architecture=architecture, tasks=tasks, max_params=max_params)
