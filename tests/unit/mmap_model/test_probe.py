"""A probe measures whichever model tells its tasks' gradients apart, not MmAP alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.cells import Cell, Point
from mmap_model.configuration import Grouping, Probe, Recipe, Seeds, Split
from mmap_model.grouping import GramStack, probe_configuration
from mmap_model.methods import Problem, base
from mmap_model.methods.joint import Joint, JointSettings
from mmap_model.methods.joint.module import JointModel
from mmap_model.methods.mmap.module import MmapModel
from mmap_model.methods.probed import Probed
from mmap_model.training import FusedRun


class ProbedJoint(Joint):
    """Joint prompts whose tasks' gradients are measured on the prompts themselves."""

    name = "probed_joint"

    def probed(self, settings: JointSettings) -> JointSettings:
        return replace(settings, modules="group")

    def build(self, settings: JointSettings, backbone: Backbone, problem: Problem) -> Model:
        return Model(settings, backbone, problem)


class Model(JointModel):
    def text_prompts(self) -> Sequence[Tensor]:
        self.text_copies = self.of_sets(self.text.flatten(0, 1).transpose(0, 1))
        return self.text_copies.unbind(0)

    def image_prompts(self) -> Sequence[Tensor]:
        self.image_copies = self.of_sets(self.image.flatten(0, 1).transpose(0, 1))
        return self.image_copies.unbind(0)

    def generated(self, tower: str) -> Tensor:
        return self.text_copies if tower == "text" else self.image_copies

    def task_gram(self, by_set: Sequence[Tensor]) -> dict[str, Tensor]:
        by_task = [g.unflatten(1, (self.replicates, self.tasks)).movedim(0, 2) for g in by_set]
        for parameter, gradient in zip((self.text, self.image), by_task, strict=True):
            parameter.grad = gradient.sum(1, keepdim=True)
        rows = torch.cat([g.double().flatten(2) for g in by_task], dim=2)
        gram = rows @ rows.transpose(1, 2)
        return {"prompts": gram, "parameters": gram}


def test_a_method_that_can_be_probed_has_its_own_probe(
    tiny_backbone: Backbone, pattern_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(base._REGISTRY, ProbedJoint.name, ProbedJoint())
    recipe = Recipe(epochs=2, batch_size=4, warmup_epochs=0, lr=0.02)
    settings = JointSettings(prompt_length=2)
    point = Point(method=ProbedJoint.name, settings=settings, recipe=recipe)
    configuration = probe_configuration(Grouping(probe=Probe(same=True)), point, tasks=2)
    assert (configuration.method, configuration.settings.modules) == (ProbedJoint.name, "group")
    cell = Cell(
        kind="probe",
        configuration=configuration,
        split=Split(shots=3),
        seeds=Seeds.both(1),
        dataset="0" * 32,
        backbone="b",
        snapshot_every=1,
    )
    classes = {"mug": 10, "fan": 10}
    dataset = pattern_dataset({"art": ("warm", classes), "photo": ("cold", classes)})
    run = FusedRun([cell], tiny_backbone, dataset)
    assert [report.epoch for report in run.epochs()] == [1, 2]
    grams = GramStack.from_bytes(run.finish()[cell.key].files["gram.safetensors"]).spaces["prompts"]
    assert len(grams) >= 2 and np.linalg.eigvalsh(grams).min() > -1e-9 and grams.max() > 0


def test_mmap_can_be_probed_and_joint_prompts_cannot() -> None:
    assert issubclass(MmapModel, Probed) and not issubclass(JointModel, Probed)
