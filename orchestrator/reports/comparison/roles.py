"""Who is who among the columns of a comparison, and which entry speaks for a column."""

from __future__ import annotations

from orchestrator.compare.comparison import Column, ColumnResult, ColumnSection, Comparison, RecipeChoice

RECIPES: tuple[RecipeChoice, ...] = ("shared", "published", "tuned")
"""In the order reported."""

BEST_FIRST: tuple[RecipeChoice, ...] = ("tuned", "published", "shared")
"""In the order preferred where one of them has to speak."""

REGIMES = (None, "single", "multi", "grouped")
"""In the order of the paper's columns: nothing trained, a copy per task, one for all; then both parts."""

SINGLE_TASK_PROMPTS = ("coop", "vpt", "maple")
PAPER = ("zero_shot", "full_ft", "coop", "vpt", "maple", "clip_adapter", "bitfit", "mmap")
"""Methods of the paper's Tables 1 and 2."""
GENERATORS = ("joint", "mlp", "mmap")
"""Methods of the prompt-generator ablation (paper, figure 4)."""


def table_columns(comparison: Comparison) -> list[Column]:
    """Columns of Tables 1 and 2 by regime, otherwise in the comparison's order."""
    columns = [column for column in comparison.columns if column.section == "table"]
    return sorted(columns, key=lambda column: REGIMES.index(column.regime))


def find(comparison: Comparison, method: str, regime: str | None) -> Column | None:
    """The table's column of a registered method in one regime."""
    return next(
        (c for c in table_columns(comparison) if (c.method, c.regime) == (method, regime)),
        None,
    )


def find_ablation(
    comparison: Comparison, *, method: str = "mmap", grouping: str | None = None, modules: str = "both"
) -> Column | None:
    """The first ablation row of a method with these modules, and of this grouping if one is given."""
    return next(
        (
            column
            for column in comparison.columns
            if column.section == "ablation"
            and column.method == method
            and column.settings.get("modules", "both") == modules
            and (grouping is None or column.grouping == grouping)
        ),
        None,
    )


def gradient_grouped(comparison: Comparison) -> Column | None:
    """MmAP as published: the column whose groups follow the gradients."""
    column = find(comparison, "mmap", "multi")
    return column if column is not None and column.grouping == "gradient" else None


def measured(comparison: Comparison, column: Column, split: str, recipe: RecipeChoice) -> ColumnResult | None:
    """The numbers of a column; where nothing is trained they are the same under every recipe."""
    recipes = (recipe, *RECIPES) if column.regime is None else (recipe,)
    found = (comparison.entry(column.name, split, r) for r in recipes)
    return next((entry for entry in found if entry is not None), None)


def failure(comparison: Comparison, column: Column, split: str, recipe: RecipeChoice) -> str | None:
    """Why a column has no numbers, first line; None if nothing says so."""
    for entry in comparison.entries:
        if (entry.column, entry.split, entry.recipe) == (column.name, split, recipe) and entry.error:
            return entry.error.strip().splitlines()[0]
    return None


def recipes_of(comparison: Comparison, split: str, section: ColumnSection) -> list[RecipeChoice]:
    """Recipes under which some trained column of a section has an entry, failed ones included."""
    trained = {c.name for c in comparison.columns if c.section == section and c.regime is not None}
    present = {e.recipe for e in comparison.entries if e.split == split and e.column in trained}
    return [recipe for recipe in RECIPES if recipe in present]


def full_label(column: Column) -> str:
    """The label, with the regime where columns share one: ``Full FT (single-task)``.

    Of the paper's columns only full fine-tuning; methods that it lacks keep their names in all regimes.
    """
    told_apart = column.method not in PAPER or column.method == "full_ft" or column.regime == "grouped"
    if column.section == "table" and told_apart and column.grouping != "single":
        return f"{column.label}{_REGIME_WORDS[column.regime]}"
    return column.label


_REGIME_WORDS = {
    None: "",
    "single": " (single-task)",
    "multi": " (multi-task)",
    "grouped": " (grouped)",
}
