"""Making a page from stored studies, and checking one that was made: what it says against the records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmap_model.errors import InputError
from orchestrator.compare.comparison import Comparison
from orchestrator.ledger import Ledger, StudyStore
from orchestrator.redaction import HIDDEN, shown_uri
from orchestrator.reports.page.compose import Links, compose
from orchestrator.reports.page.differences import PageDifference, first_difference
from orchestrator.reports.page.evidence import Evidence, PageOptions
from orchestrator.reports.page.methods import methods_page
from orchestrator.reports.page.render import Library, render
from orchestrator.reports.page.sections.errors import Images, chosen_mistakes

FORMAT = 1
"""Of a page's inputs."""

_INPUTS = re.compile(
    r'<script type="application/json" id="inputs" data-sha256="([^"]*)">(.*?)</script>', re.S
)
_LIBRARY = '<script id="library">'
_IMAGE = re.compile(r'(<img src=")(data:image/[^"]*)(")')

StudyOpener = Callable[[str, str], tuple[StudyStore, Ledger]]
"""Records of a study from its name and its storage as the page names it."""

Thumbnails = Callable[[Evidence, Sequence[tuple[str, str]]], Images]
"""``data:`` addresses of images of a study, by task and sample."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A page.

    Attributes:
        html: the whole file.
        studies: what it is made of.
    """

    html: str
    studies: tuple[Evidence, ...]


def make_page(
    stored: Sequence[tuple[StudyStore, Ledger]],
    wanted: PageOptions,
    *,
    made: str,
    links: Sequence[Links] = (),
    thumbnails: Thumbnails | None = None,
) -> Made:
    """A page of one study or several.

    Args:
        stored: their records.
        wanted: what it shows.
        made: when, for people.
        links: addresses of runs of each study.
        thumbnails: opens images; needed where the page wants some.

    Raises:
        InputError: a study has no records, or plotly is not installed.
    """
    library = plotly_library()
    studies = [Evidence(store, ledger, wanted) for store, ledger in stored]
    images: list[Images] = [{} for _ in studies]
    if wanted.images:
        assert thumbnails is not None, "images are opened by somebody"
        images = [
            thumbnails(study, [(guess.task, guess.sample) for guess in chosen_mistakes(study)])
            for study in studies
        ]
    inputs: dict[str, Any] = {
        **_inputs("studies", made, library),
        "studies": [
            {"name": study.name, "storage": _named(str(study.store.storage.root))} for study in studies
        ],
        "test": wanted.test,
        "images": wanted.images,
        "thumbnails": [sorted(_digest(image) for image in found.values()) for found in images],
        "links": [dict(found) for found in links],
    }
    return Made(html=_rendered(studies, inputs, images, library), studies=tuple(studies))


def make_comparison_page(comparison: Comparison, arguments: Mapping[str, Any], *, made: str) -> str:
    """The page of a comparison of methods, as HTML.

    Args:
        comparison: what was found.
        arguments: of the command, from which the comparison can be found again, JSON-able.
        made: when, for people.

    Raises:
        InputError: plotly is not installed.
    """
    library = plotly_library()
    inputs = {**_inputs("comparison", made, library), "arguments": dict(arguments), "thumbnails": []}
    return render(methods_page(comparison, made=made, software=inputs["software"]), inputs, library)


def check_page(
    page: str,
    open_study: StudyOpener,
    where: str,
    find_comparison: Callable[[Mapping[str, Any]], Comparison] | None = None,
) -> PageDifference | None:
    """The first number or word of a page that is not what its records give now; None if all are.

    All of the page is made again from the records and compared, character by character. The script that
    draws the figures and the thumbnails are compared by their hashes.

    Args:
        page: the file's text.
        open_study: finds the records.
        where: the file's name, for errors.
        find_comparison: finds a comparison from the arguments of its command.

    Raises:
        InputError: it is no such page, or one of a later version.
    """
    found = _INPUTS.search(page)
    if found is None:
        raise InputError(
            "orchestrator report did not write it: it does not say what it was made of",
            where=where,
            fix="give a file that orchestrator report wrote",
        )
    if hashlib.sha256(found[2].encode()).hexdigest() != found[1]:
        return PageDifference(
            place="what the page says it was made of", page=found[1][:12], records="another hash"
        )
    inputs = json.loads(found[2])
    if inputs.get("format") != FORMAT:
        raise InputError(
            f"it has format {inputs.get('format')}, and this version reads format {FORMAT}",
            where=where,
            fix=f"check it with version {inputs.get('software', 'that made it')}",
        )
    rest, library = _without_library(page)
    if hashlib.sha256(library.encode()).hexdigest() != inputs["library"]["sha256"]:
        return PageDifference(
            place="the script that draws figures", page="changed", records=inputs["library"]["name"]
        )
    images = [match[2] for match in _IMAGE.finditer(rest)]
    if sorted(map(_digest, images)) != sorted(digest for known in inputs["thumbnails"] for digest in known):
        return PageDifference(place="thumbnails", page="changed", records="other images")
    rest = _IMAGE.sub(r"\1\3", rest)
    if inputs["kind"] == "comparison":
        assert find_comparison is not None, "comparisons are found by somebody"
        found_page = methods_page(
            find_comparison(inputs["arguments"]), made=inputs["made"], software=inputs["software"]
        )
        return first_difference(rest, render(found_page, inputs, None))
    wanted = PageOptions(test=inputs["test"], images=inputs["images"])
    studies = [Evidence(*open_study(each["name"], each["storage"]), wanted) for each in inputs["studies"]]
    return first_difference(rest, _rendered(studies, inputs, [{} for _ in studies], None))


def is_page(text: str) -> bool:
    """Whether a text is a page that was made here."""
    return _INPUTS.search(text) is not None


def made_by(page: str) -> str:
    """The version that made a page; empty if it does not say."""
    found = _INPUTS.search(page)
    return str(json.loads(found[2]).get("software", "")) if found else ""


def storage_of(named: str, given: str | None, where: str) -> str:
    """Where the records are: as it is ``given``, or as the page names it.

    Raises:
        InputError: the page does not name it, because it has credentials or options.
    """
    if given is None and HIDDEN in named:
        raise InputError(
            f"the page hides a part of the storage's address: {named}",
            where=where,
            fix="give it with --storage",
        )
    return given if given is not None else named


def software_version() -> str:
    """Of this software."""
    try:
        return version("mmap-orchestrator")
    except PackageNotFoundError:
        return "unknown"


def plotly_library() -> Library:
    """The script that draws figures, from the package plotly.

    Raises:
        InputError: it is not installed.
    """
    try:
        from importlib.resources import files

        code = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
        return Library(f"plotly.js of plotly {version('plotly')}", code)
    except (ImportError, OSError, PackageNotFoundError):
        raise InputError(
            "figures are drawn by plotly, which is not installed",
            where="report",
            fix="install the extra: uv sync --extra report, or pip install 'mmap-orchestrator[report]'",
        ) from None


def _named(root: str) -> str:
    """A storage as a page names it: without credentials and options, and marked where it had some."""
    shown = shown_uri(root)
    return shown if shown == root or HIDDEN in shown else f"{shown}?{HIDDEN}"


def _inputs(kind: str, made: str, library: Library) -> dict[str, Any]:
    """What every page says of how it was made."""
    return {
        "format": FORMAT,
        "kind": kind,
        "made": made,
        "software": software_version(),
        "library": {"name": library.name, "sha256": library.sha256},
    }


def _rendered(
    studies: Sequence[Evidence],
    inputs: Mapping[str, Any],
    images: Sequence[Images],
    library: Library | None,
) -> str:
    page = compose(
        studies,
        made=inputs["made"],
        software=inputs["software"],
        images=images,
        links=inputs["links"],
    )
    return render(page, inputs, library)


def _without_library(page: str) -> tuple[str, str]:
    """The page without the script that draws figures, and that script."""
    start = page.find(_LIBRARY)
    if start < 0:
        return page, ""
    begin = start + len(_LIBRARY)
    end = page.find("</script>", begin)
    return page[:begin] + page[end:], page[begin:end]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
