"""The report as files."""

from __future__ import annotations

from pathlib import Path

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import latex, markdown, records
from orchestrator.reports.comparison.contents import Contents


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
    texts = {
        "README.md": markdown.report(contents, images),
        "claims.md": markdown.claims_page(contents),
        "tables.tex": latex.tables(contents),
        "comparison.json": comparison.to_json(),
        "accuracies.csv": records.accuracies(comparison),
        "summary.csv": records.summary(contents),
        "claims.csv": records.verdicts(contents.claims),
    }
    return [*(_replace(folder / name, text) for name, text in texts.items()), *figures]


def _replace(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)
    return path
