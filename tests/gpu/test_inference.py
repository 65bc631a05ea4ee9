"""An exported classifier computes on a GPU what it computes on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mmap_model
from mmap_model.backbone import random_backbone
from mmap_model.cells import Configuration, Point
from mmap_model.checkpoint import pack_prompts
from mmap_model.inference.exporting import export
from mmap_model.inference.trained import Trained
from mmap_model.methods import Problem, get_method

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

TASKS = {"art": ("dog", "sea turtle", "cat"), "photo": ("dog", "cat")}
TASK = torch.tensor([1, 0, 0, 1, 1])


def trained(name: str, device: str) -> Trained:
    """The same weights on either device."""
    backbone, method = random_backbone().to(device), get_method(name)
    point = Point.from_dict({"method": name})
    configuration = Configuration(method=name, settings=point.settings)
    problem = Problem(classes=list(TASKS.values()), template="a {}.", partitions=[None], train_seeds=[1])
    model = method.build(point.settings, backbone, problem)
    files = pack_prompts(model, 0, configuration=configuration, tasks=TASKS, backbone=backbone)
    return Trained.of(files, backbone)


@pytest.mark.parametrize("name", ["vpt", "maple", "clip_adapter", "full_ft"])
@pytest.mark.parametrize("kind", ["prompts", "classifier", "torch-export"])
def test_a_classifier_computes_on_a_gpu_what_it_computes_on_the_cpu(
    name: str, kind: str, tmp_path: Path
) -> None:
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    found = []
    for exported, device in (("cpu", "cpu"), ("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
        folder = tmp_path / f"{exported} {device}"
        export(trained(name, exported), folder, kind)
        classifier = mmap_model.load(folder, backbone=random_backbone(), device=device)
        assert classifier.device.type == device
        found.append(classifier.logits(pixels, TASK).cpu())
        assert len(list(classifier.predict(pixels, task="art", batch=2))) == 5
    for logits in found[1:]:
        torch.testing.assert_close(logits, found[0], rtol=0, atol=2e-4)
