"""Which figures a report has, and their files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.figures import style
from orchestrator.reports.comparison.figures.ablation import ablation_figure
from orchestrator.reports.comparison.figures.affinity import affinity_figure
from orchestrator.reports.comparison.figures.shots import shots_figure
from orchestrator.reports.comparison.figures.tradeoff import tradeoff_figure
from orchestrator.reports.comparison.roles import BEST_FIRST

NAMES = ("accuracy_vs_parameters", "shots", "ablation", "affinity")


def draw_figures(contents: Contents, folder: Path) -> list[Path]:
    """Draw every figure whose data exist as PNG and PDF; drop those of an earlier report that do not."""
    paths: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    with style.styled():
        for name, figure in _figures(contents):
            if figure is not None:
                paths += style.save(figure, folder, name)
    for old in folder.iterdir():
        if old not in paths and old.name.startswith(NAMES) and old.suffix in (".png", ".pdf"):
            old.unlink()
    return paths


def _figures(contents: Contents) -> Iterator[tuple[str, Any | None]]:
    comparison = contents.comparison
    for split in comparison.splits:
        by_recipe = {table.recipe: table for table in contents.tables if table.split == split}
        best = next((by_recipe[recipe] for recipe in BEST_FIRST if recipe in by_recipe), None)
        if best is not None:
            yield f"{NAMES[0]}_{_slug(split)}", tradeoff_figure(best)
    yield NAMES[1], shots_figure(contents)
    for split in comparison.splits:
        found = next((item for item in contents.ablations if item.split == split), None)
        if found is not None:
            yield f"{NAMES[2]}_{_slug(split)}", ablation_figure(found)
        yield f"{NAMES[3]}_{_slug(split)}", affinity_figure(comparison, split)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("%", "pc")).strip("_")
