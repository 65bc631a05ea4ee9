"""What a column trains by each recipe: the study's own, its authors', and the one whose rate is searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmap_model.configuration import Recipe
from mmap_model.methods import get_method
from mmap_model.plain import from_plain, to_plain
from orchestrator.compare.columns import FULL_FT_RATE
from orchestrator.compare.spacing import rounded
from orchestrator.study.fields import with_published
from orchestrator.study.model import ColumnOptions, Study

TEXTS = ("template", "augment")
"""Keys of a recipe that stay the study's under the authors' own."""

AMOUNTS = ("epochs", "batch_size", "steps", "steps_per_shot", "last_batch", "views", "loss_reduction")
"""Keys that decide how many images a method sees: where rates are searched, the study's for every column."""

IN_EPOCHS = ("warmup_epochs", "average_mean", "average_std")
"""Keys that count in the authors' epochs: where rates are searched, their share of the study's epochs."""

AVERAGES = ("average", "average_mean", "average_std")
"""Keys of the average over epochs: the study's for methods whose authors average nothing."""


def shared_recipe(study: Study, method: str) -> Recipe:
    """The study's recipe, with what it says of the method. Full fine-tuning alone starts lower.

    Raises:
        InputError: a key or value that is none, naming it under ``compare.methods``.
    """
    recipe = study.recipe
    if method == "full_ft":
        recipe = replace(recipe, lr=rounded(FULL_FT_RATE * recipe.lr))
    options, where = _options(study, method)
    own = with_published(options.recipe, method, where)
    kept = to_plain(recipe)
    if own is not options.recipe:  # the authors' recipe does not start from the study's
        kept = {key: kept[key] for key in TEXTS}
    return from_plain(Recipe, {**kept, **own}, where)


def published_recipe(study: Study, method: str) -> Recipe:
    """The recipe of the method's authors with the study's texts and augmentation, and what the study says.

    The study's own where they gave none.
    """
    published = get_method(method).published
    if published is None:
        return shared_recipe(study, method)
    return _overlaid(study, method, TEXTS, published)


def searched_recipe(study: Study, method: str) -> Recipe:
    """The recipe whose rate is searched around the authors' own: equal amounts of images for every column.

    Optimiser, rate, decay and schedule are the authors', because a rate means nothing without them; epochs,
    batches and views are the study's. What they count in epochs, a warm-up and an average over epochs, keeps
    its share of the training: a warm-up of 1 of 300 epochs is none of 5.
    """
    published = get_method(method).published
    if published is None:
        return shared_recipe(study, method)
    theirs = {key: value for key, value in published.items() if key not in AMOUNTS}
    plain = Recipe()
    counted = {"warmup_epochs": plain.warmup_epochs, **theirs}
    share = study.recipe.epochs / published.get("epochs", plain.epochs)
    for key in IN_EPOCHS:
        if counted.get(key) is not None:
            theirs[key] = counted[key] * share
    theirs["warmup_epochs"] = round(theirs["warmup_epochs"])
    return _overlaid(study, method, (*TEXTS, *AMOUNTS, *AVERAGES), theirs)


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with that peak rate; its end does not lie above."""
    return replace(recipe, lr=rate, final_lr=min(recipe.final_lr, rate))


def _overlaid(study: Study, method: str, kept: tuple[str, ...], theirs: Mapping[str, Any]) -> Recipe:
    """``theirs`` over the kept keys of the study's recipe, under what the study says of the method."""
    options, where = _options(study, method)
    own = with_published(options.recipe, method, where)
    ours = to_plain(study.recipe)
    given = {key: ours[key] for key in kept if key in ours}
    return from_plain(Recipe, {**given, **theirs, **own}, where)


def _options(study: Study, method: str) -> tuple[ColumnOptions, str]:
    return study.compare.methods.get(method, ColumnOptions()), f"compare.methods.{method}.recipe"
