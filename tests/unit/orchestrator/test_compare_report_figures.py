from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison import write_report
from orchestrator.reports.comparison.ablation import ablation
from orchestrator.reports.comparison.contents import Contents
from orchestrator.reports.comparison.figures.ablation import ablation_figure
from orchestrator.reports.comparison.figures.affinity import affinity_figure
from orchestrator.reports.comparison.figures.labels import Box, place_labels
from orchestrator.reports.comparison.figures.shots import shots_figure
from orchestrator.reports.comparison.figures.style import styled
from orchestrator.reports.comparison.figures.tradeoff import tradeoff_figure
from orchestrator.reports.comparison.method_table import method_table

Make = Callable[..., Comparison]


@pytest.fixture(scope="module", autouse=True)
def _style() -> Any:
    with styled():
        yield


def test_report_names_the_files_it_wrote(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    stale = folder / "figures" / "shots.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    own = folder / "figures" / "mine.png"
    own.touch()
    ablation_rows = tuple(c.name for c in make().columns if c.section == "ablation")
    paths = write_report(make(missing=ablation_rows), folder)
    names = {str(path.relative_to(folder)) for path in paths}
    assert {"README.md", "claims.md", "tables.tex", "comparison.json", "summary.csv"} <= names
    figures = ("accuracy_vs_parameters_6_shot", "affinity_6_shot")
    assert {f"figures/{name}.{kind}" for name in figures for kind in ("png", "pdf")} <= names
    assert all(path.stat().st_size > 500 for path in paths)
    assert not stale.exists() and own.exists()
    assert not any("ablation" in name for name in names)
    assert {p for p in folder.rglob("*") if p.is_file()} == {*paths, own}
    page = (folder / "README.md").read_text()
    assert "figures/affinity_6_shot.png" in page and "shots.png" not in page


def test_trade_off_has_a_marker_per_trained_method_and_a_line_for_zero_shot(make: Make) -> None:
    comparison = make(missing=("vpt_single",))
    figure = tradeoff_figure(method_table(comparison, "6-shot", "tuned"))
    axes = figure.axes[0]
    drawn = {c.get_gid(): c for c in axes.collections if c.get_gid()}
    trained = {c.name for c in comparison.columns if c.section == "table" and c.parameters}
    assert set(drawn) == trained - {"vpt_single"}
    by_count = sorted(drawn, key=lambda name: comparison.column(name).parameters)
    areas = [drawn[name].get_sizes()[0] for name in by_count]
    assert areas == sorted(areas) and areas[0] < areas[-1]
    assert {"MmAP", "MaPLe-MT", "ZeroShot, nothing trained"} <= {t.get_text() for t in axes.texts}
    assert axes.get_xscale() == "log"


def test_shots_need_two_splits_and_draw_a_band_per_prompt_method(make: Make) -> None:
    assert shots_figure(Contents(make())) is None
    comparison = make(splits=("1-shot", "6-shot", "12-shot"))
    figure = shots_figure(Contents(comparison))
    panel = figure.axes[0]
    assert panel.get_title(loc="left") == "Average"
    assert [line.get_label() for line in panel.lines] == ["MmAP", "MaPLe-MT", "CoOp-MT", "VPT-MT", "ZeroShot"]
    assert len(panel.collections) == 4
    entry = comparison.entry("mmap", "12-shot", "tuned")
    assert entry is not None
    mean = sum(entry.seed_means().values()) / 3
    assert panel.lines[0].get_xydata()[-1] == pytest.approx((12, 100 * mean))


def test_ablation_draws_every_seed_and_rings_the_chosen_partitions(comparison: Comparison) -> None:
    found = ablation(comparison, "6-shot", "tuned")
    assert found is not None
    figure = ablation_figure(found)
    assert [len(axes.get_yticks()) for axes in figure.axes] == [7, 3, 3]
    points = [c for c in figure.axes[2].collections if hasattr(c, "get_sizes")]
    seeds, rings = points[0::2], points[1::2]
    assert [len(c.get_offsets()) for c in seeds] == [3, 3, 3]
    assert [len(c.get_offsets()) for c in rings] == [2, 1, 0]


def test_affinity_frames_the_pairs_of_each_seeds_partition(comparison: Comparison) -> None:
    figure = affinity_figure(comparison, "6-shot")
    panels = figure.axes[:3]
    assert all(len(axes.patches) == 2 for axes in panels)
    assert all("margin to the second best 17%" in axes.get_title(loc="left") for axes in panels)
    assert "2 of 3 seeds agree" in figure._suptitle.get_text()
    corners = sorted(patch.get_xy() for patch in panels[0].patches)
    assert corners[0] == pytest.approx((0 - 0.46, 2 - 0.46))  # clipart and sketch: first column, last row
    assert corners[1] == pytest.approx((1 - 0.46, 1 - 0.46))  # painting and photo
    assert affinity_figure(comparison, "1-shot") is None


def test_labels_cover_neither_markers_nor_one_another() -> None:
    draw = random.Random(0)
    centres = [(draw.uniform(50, 350), draw.uniform(50, 250)) for _ in range(12)]
    markers = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in centres]
    boxes = place_labels(markers, [(45.0, 10.0)] * 12, Box(0, 0, 400, 300))
    for i, box in enumerate(boxes):
        assert box.outside(Box(0, 0, 400, 300)) == pytest.approx(0)
        assert all(box.overlap(other) == 0 for other in boxes[:i])
        assert all(box.overlap(marker) == 0 for marker in markers)


def test_report_is_imported_without_heavy_libraries(imported: Callable[..., str]) -> None:
    heavy = {"matplotlib", "torch", "ray", "mlflow", "numpy"}
    assert imported("orchestrator.reports.comparison", heavy) == "[]"
