"""Training of the packaged CLIPs: what batches hold, and that a resumed run goes on as it would have."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mmap_model.symbols import GLYPHS

FOLDER = Path(__file__).parents[3] / "benchmarks" / "symbols_clip"
NAMES = ("bank", "captions", "tables", "mixing", "scores", "towers", "steps")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    """The benchmark's own modules, whose names others may have too."""
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    sys.path.insert(0, str(FOLDER))
    found = {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(FOLDER))
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module
    return found


@pytest.fixture(scope="module")
def mixer(modules: dict[str, ModuleType]) -> Any:
    """Two images of every class and style that is shown; each pixel holds its row, each caption its place."""
    tables, bank = modules["tables"], modules["bank"]
    plans = [bank.plan(glyph, 2, 2, 2) for glyph in GLYPHS]
    count = np.array([[plan.get(style, 0) for style in tables.STYLES] for plan in plans])
    first = (np.cumsum(count.ravel()) - count.ravel()).reshape(count.shape)
    pixels = np.zeros((int(count.sum()), 32, 32, 3), np.uint8)
    images = tables.Images(pixels, first, count)
    places = np.arange(len(GLYPHS) * (len(tables.STYLES) + 1)).reshape(len(GLYPHS), -1, 1)
    captions = {
        length: tables.Captions(
            np.repeat(places[..., None], length, -1).astype(np.int16), np.full(places.shape, 5, np.int16)
        )
        for length in tables.LENGTHS
    }
    return modules["mixing"].Mixer(images, captions, captions, size=64, style_free=0.25, device=CPU)


def test_benchmark_classes_are_shown_in_no_domain_and_domains_with_no_benchmark_class(
    modules: dict[str, ModuleType],
) -> None:
    domains = set(modules["tables"].STYLES[:4])
    for glyph in GLYPHS[::9]:
        shown = {style for style, count in modules["bank"].plan(glyph, 1, 1, 1).items() if count}
        assert not shown & domains if glyph.benchmark else domains < shown


def test_batches_are_pairs_of_one_class_in_two_styles_with_captions_of_their_class(
    modules: dict[str, ModuleType], mixer: Any
) -> None:
    styles = len(modules["tables"].STYLES)
    batch = mixer.draw(14, 1.0, modules["mixing"].keyed(CPU, 1, 2))
    said, classes = batch.ids[:, 0] % (styles + 1), batch.ids[:, 0] // (styles + 1)
    assert torch.equal(classes[::2], classes[1::2])
    named = (said[::2] < styles) & (said[1::2] < styles)
    assert named.any() and (said[::2] != said[1::2])[named].all()
    benchmark = torch.tensor([glyph.benchmark for glyph in GLYPHS])[classes]
    assert benchmark.any() and (said[benchmark] >= 4).all()


def test_a_caption_without_style_fits_every_image_of_its_class_and_no_image_is_its_own_negative(
    modules: dict[str, ModuleType], mixer: Any
) -> None:
    styles = len(modules["tables"].STYLES)
    batch = mixer.draw(20, 1.0, modules["mixing"].keyed(CPU, 1, 3))
    said, classes = batch.ids[:, 0] % (styles + 1), batch.ids[:, 0] // (styles + 1)
    assert not batch.fits.diagonal().any()
    assert not (batch.fits & (classes[:, None] != classes[None])).any()
    free = said == styles
    expected = (classes[:, None] == classes[None]) & ~torch.eye(64, dtype=torch.bool)
    assert free.any() and torch.equal(batch.fits[:, free], expected[:, free])


def test_draws_depend_on_seed_and_step_alone(modules: dict[str, ModuleType], mixer: Any) -> None:
    keyed = modules["mixing"].keyed
    first = mixer.draw(14, 0.5, keyed(CPU, 1, 7))
    mixer.draw(14, 0.5, keyed(CPU, 1, 8))
    again, other = mixer.draw(14, 0.5, keyed(CPU, 1, 7)), mixer.draw(14, 0.5, keyed(CPU, 2, 7))
    assert torch.equal(first.ids, again.ids) and torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.ids, other.ids)


def test_a_resumed_step_leaves_the_weights_of_an_uninterrupted_one(
    modules: dict[str, ModuleType], mixer: Any
) -> None:
    steps, keyed = modules["steps"], modules["mixing"].keyed

    def trained(parts: list[range]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = modules["towers"].build(8000).train()
        optimiser = torch.optim.AdamW(steps.parameter_groups(model), lr=1e-3)
        for part in parts:
            saved = {name: value.clone() for name, value in model.state_dict().items()}
            kept = optimiser.state_dict()
            model = modules["towers"].build(8000).train()
            model.load_state_dict(saved)
            optimiser = torch.optim.AdamW(steps.parameter_groups(model), lr=1e-3)
            optimiser.load_state_dict(kept)
            runner = steps.Step(model, optimiser, 64, 1, graphs=False)
            for step in part:
                shape = steps.Shape(14, image_noise=True, text_noise=True, whole=False)
                runner.run(shape, mixer.draw(14, 1.0, keyed(CPU, 1, step)), step)
        return model.state_dict()

    whole, halves = trained([range(2)]), trained([range(1), range(1, 2)])
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
