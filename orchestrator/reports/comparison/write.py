"""The report as files, and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.documents import documents, screen
from orchestrator.tables.registry import formats
from orchestrator.tables.terminal import render


def write_report(comparison: Comparison, folder: Path) -> list[Path]:
    """Write all of a comparison's report into ``folder`` and name the files.

    ``README.md`` and ``claims.md`` are the pages to read, ``tables.tex`` the same tables for LaTeX,
    ``comparison.json`` all that was found, the CSV files its numbers, ``figures/`` PNG and PDF of each figure
    whose data exist. Each file replaces its predecessor in one step; figures of an earlier report that this
    one does not draw are removed.
    """
    from orchestrator.reports.comparison.figures import draw_figures

    contents = Contents(comparison)
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_figures(contents, folder / "figures")
    images = [path.name for path in figures if path.suffix == ".png"]
    files = {**texts(contents, images), "comparison.json": comparison.to_json()}
    return [*(_replace(folder / name, text) for name, text in files.items()), *figures]


def texts(contents: Contents, images: Sequence[str] = ()) -> dict[str, str]:
    """The report in every format, by the names of its files."""
    return {
        f"{name}.{form.suffix}": form.write(document)
        for form in formats().values()
        for name, document in documents(contents, form.layout, images).items()
    }


def show(comparison: Comparison, console: Console) -> None:
    """Print a comparison."""
    console.print(render(screen(Contents(comparison)), console.width), crop=False)


def _replace(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)
    return path
