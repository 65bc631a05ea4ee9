"""Images per second of ``orchestrator predict`` on JPEGs, beside the bare image tower on ready pixels."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from made import make_artefact, make_photographs

from mmap_model.inference.artefact import Artefact
from orchestrator.predicting.arguments import Arguments
from orchestrator.predicting.labelling import Question
from orchestrator.predicting.listing import Listing
from orchestrator.predicting.loading import LoadingOptions, load
from orchestrator.predicting.local import label_here
from orchestrator.predicting.output import Output
from orchestrator.predicting.parts import Parts
from orchestrator.predicting.run import PredictionRun
from orchestrator.study.machine import this_machine

BATCH, IMAGES, ROUNDS, PART = 32, 128, 3, 64


def measure(device: str) -> dict[str, Any]:
    """Ratios of images per second, medians over rounds in which all take turns."""
    with tempfile.TemporaryDirectory(prefix="mmap-predict-") as name:
        folder = Path(name)
        artefact, backbone = make_artefact(folder)
        encoded = make_photographs(folder / "photographs", IMAGES)
        question = Question("photo")
        options = LoadingOptions(batch=BATCH, part=PART, device=device)
        labeller = load(artefact, question, options)
        classifier = labeller.classifier
        visual = backbone.to(torch.device(device)).clip.visual
        pixels = torch.rand(BATCH, 3, classifier.image_size, classifier.image_size, device=device)
        task = torch.full((BATCH,), classifier.artefact.task("photo"), device=device)
        tower = classifier._engine._classifier.images  # type: ignore[attr-defined]
        out = folder / "labels.parquet"

        def predict() -> None:
            """List, decode, label, commit and join: all of the command but starting and loading."""
            with Listing(Arguments([str(folder / "photographs")]).entries()) as listing:
                run = PredictionRun(artefact, Artefact.describe(artefact), question, listing, options)
                with Parts(Output(str(out)), run.identity) as parts:
                    parts.begin(restart=True)
                    threads = this_machine().cores
                    tables = label_here(listing, labeller, batch=BATCH, part=PART, threads=threads)
                    parts.commit(tables, lambda _: None)
                    assert parts.join({}).errors == 0
            out.unlink()

        @torch.no_grad()
        def bare(forward: Callable[[], torch.Tensor]) -> None:
            for _ in range(IMAGES // BATCH):
                forward()
            if device != "cpu":
                torch.cuda.synchronize()

        cases: dict[str, Callable[[], None]] = {
            "predict": predict,
            "prompted tower": lambda: bare(lambda: tower(pixels, task)),
            "tower of open_clip": lambda: bare(lambda: visual(pixels)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(ROUNDS + 1):
            for name, case in cases.items():
                started = time.perf_counter()
                case()
                if number:  # the first round warms up
                    seconds[name].append(time.perf_counter() - started)
    rates = {name: IMAGES / statistics.median(found) for name, found in seconds.items()}
    return {
        "batch": BATCH,
        "images": IMAGES,
        "rounds": ROUNDS,
        "bytes_of_a_jpeg": encoded,
        "threads": torch.get_num_threads(),
        "images_per_second": rates,
        "seconds": seconds,
        "ratio_to_prompted_tower": rates["predict"] / rates["prompted tower"],
        "ratio_to_tower_of_open_clip": rates["predict"] / rates["tower of open_clip"],
    }
