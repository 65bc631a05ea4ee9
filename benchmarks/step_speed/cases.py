"""What is measured: a CLIP, a method, classes and batches; as ours and as the reference."""

from __future__ import annotations

import csv
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from count import Passes, image_passes, text_passes  # noqa: E402
from reference import Reference  # noqa: E402
from reference_newer import PlainLora, PlainPromptsrc  # noqa: E402

from mmap_model.backbone import Backbone, BackboneSpec, load_backbone, random_backbone  # noqa: E402
from mmap_model.forward.precision import full_precision  # noqa: E402
from mmap_model.methods import Problem, get_method  # noqa: E402
from mmap_model.methods.clip_lora.module import ClipLoraModel  # noqa: E402
from mmap_model.methods.model import TunedModel  # noqa: E402
from mmap_model.methods.prompted import PromptedModel  # noqa: E402
from mmap_model.methods.promptsrc.module import PromptsrcModel  # noqa: E402

WORDS = "a photo of a {}."
TEMPLATES = {"mmap": WORDS, "maple": "{}.", "clip_lora": WORDS, "promptsrc": "{}."}
"""The prompts of MaPLe and PromptSRC stand for the words before the name."""
METHODS: dict[str, dict[str, Any]] = {
    "mmap": {"prompt_length": 14},
    "maple": {"prompt_length": 8, "depth": 12},
    "clip_lora": {"regime": "multi"},
    "promptsrc": {"anchors": WORDS},
}
"""The defaults; MmAP inserts 28 prompts (its group's and its task's), MaPLe-MT 8, in every layer. Frozen
texts of PromptSRC are constants of a training: one for a class stands for the mean of sixty."""
NEWER = ("clip_lora", "promptsrc")
"""Methods whose step is more than prompted towers and cross-entropy."""


@dataclass(frozen=True)
class Case:
    """One training step.

    Attributes:
        method: a key of ``METHODS``.
        classes: number of class names, from the glyph list (1.7 tokens each among the first 65, 2.6 of 345).
        batch: images per replicate and task.
        tasks, replicates: each pair has its own prompts and images.
        precision: ``fp32`` or ``bf16`` (autocast).
        text_chunk: of the reference, see there.
        tiny: a CLIP of three narrow layers, to try the script.
        embedded: the small CLIP of the embedded benchmark in place of a ViT-B/16.
    """

    method: str
    classes: int
    batch: int
    tasks: int = 1
    replicates: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    text_chunk: int | None = None
    tiny: bool = False
    embedded: bool = False

    def backbone(self) -> Backbone:
        """A random ViT-B/16 with QuickGELU, as the paper's model, or the embedded benchmark's CLIP."""
        if self.embedded:
            return load_backbone(BackboneSpec("symbols"), device=self.device)
        shape = {} if self.tiny else VIT_B_16
        return random_backbone(quick_gelu=True, device=self.device, **shape)

    def build(self, backbone: Backbone) -> TunedModel:
        method = get_method(self.method)
        tasks = tuple(range(self.tasks))
        halves = (tasks[: self.tasks // 2], tasks[self.tasks // 2 :])
        return method.build(
            method.Settings(**self._settings),
            backbone,
            Problem(
                classes=self.names(),
                template=TEMPLATES["mmap"],
                partitions=[tuple(half for half in halves if half) if method.grouped else None]
                * self.replicates,
                train_seeds=list(range(1, 1 + self.replicates)),
            ),
        )

    @property
    def _settings(self) -> dict[str, Any]:
        if self.embedded:
            return EMBEDDED[self.method]
        return TINY[self.method] if self.tiny else METHODS[self.method]

    @property
    def template(self) -> str:
        return TEMPLATES[self.method]

    def names(self) -> list[list[str]]:
        return [class_names(self.classes)] * self.tasks

    def batch_of(self, backbone: Backbone) -> tuple[Tensor, Tensor]:
        """Normalised pixels [R, T, B, 3, S, S] and labels [R, T, B]."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.replicates, self.tasks, self.batch)
        pixels = torch.randn((*shape, 3, *[backbone.image_size] * 2), generator=generator)
        labels = torch.randint(self.classes, shape, generator=generator)
        return pixels.to(backbone.device, backbone.dtype), labels.to(backbone.device)

    def count(self, model: TunedModel) -> tuple[Passes, Passes] | None:
        """Of text and image tower, for this case's names and prompts; None where nobody derived it."""
        if self.method in NEWER:
            return None
        assert isinstance(model, PromptedModel)
        backbone, prompts = model.backbone, model.image_prompts()[0].shape[1]
        ids = backbone.tokenize([self.template.replace("{}", name) for name in class_names(self.classes)])
        common, lengths = model.class_prompts.common, (ids.argmax(1) + 1).tolist()
        sets = self.tasks * self.replicates
        return (
            text_passes(
                backbone.architecture,
                common=common,
                rest=[length - 1 - common for length in lengths],
                prompts=model.class_prompts.prompt_length,
                sets=model.text_sets[0] * model.text_sets[1],
            ),
            image_passes(backbone.architecture, images=self.batch, prompts=prompts, sets=sets),
        )


VIT_B_16 = {
    "text_width": 512,
    "image_width": 768,
    "layers": 12,
    "text_heads": 8,
    "head_width": 64,
    "image_size": 224,
    "patch_size": 16,
    "embed_dim": 512,
}
TINY = {
    "mmap": {"prompt_length": 2, "source_rows": 2, "source_cols": 8},
    "maple": {"prompt_length": 2, "depth": 3},
    "clip_lora": {"regime": "multi"},
    "promptsrc": {"prompt_length": 2, "depth": 2, "init_words": "", "anchors": WORDS},
}


EMBEDDED = {"mmap": {"prompt_length": 4, "source_rows": 4, "source_cols": 32}}
"""The demo's largest shape."""


def class_names(count: int) -> list[str]:
    """Names of glyphs, the 65 of the embedded benchmark first."""
    with (ROOT / "mmap_model/symbols/glyphs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["name"] for row in sorted(rows, key=lambda row: row["benchmark"] != "1")]
    assert len(names) >= count
    return names[:count]


def training_step(
    case: Case, model: TunedModel, backbone: Backbone, *, reference: bool
) -> Callable[[], float]:
    """One step of SGD down the sum of the losses; returns the losses' mean."""
    if case.method in NEWER:
        return newer_step(case, model, backbone, reference=reference)
    assert isinstance(model, PromptedModel)
    pixels, labels = case.batch_of(backbone)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    plain = Reference(
        model, case.names(), case.template, assembled=case.method == "maple", text_chunk=case.text_chunk
    )

    def losses() -> Tensor:
        if reference:
            return plain.losses(pixels, labels)
        logits = model.logits(pixels)
        with full_precision(logits):
            each = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
        return each.view(labels.shape).mean(-1)

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            found = losses()
        found.sum().backward()
        optimiser.step()
        return found.detach().mean().item()

    return step


def newer_step(case: Case, model: TunedModel, backbone: Backbone, *, reference: bool) -> Callable[[], float]:
    """As `training_step`; the reference takes one task after the other, as code without tasks has to."""
    pixels, labels = case.batch_of(backbone)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    plain = plain_of(case, model, backbone)
    model.train()

    def ours() -> float:
        classes, images = model.class_features(), model.image_features(pixels)
        losses = model.image_losses(images, pixels, labels, classes).mean(-1)
        of_classes = model.class_losses(classes)
        losses = losses if of_classes is None else losses + of_classes
        losses.sum().backward()
        return losses.detach().mean().item()

    def theirs() -> float:
        found = []
        for task in range(case.tasks):
            loss = plain.task_loss(pixels, labels, task)
            loss.backward()
            found.append(loss.item())
        return sum(found) / len(found)

    def step() -> float:
        model.step += 1
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            value = theirs() if reference else ours()
        optimiser.step()
        return value

    return step


def plain_of(case: Case, model: TunedModel, backbone: Backbone) -> PlainLora | PlainPromptsrc:
    """The reference of a newer method."""
    settings: Any = get_method(case.method).Settings(**case._settings)
    if isinstance(model, ClipLoraModel):
        gain = settings.alpha / settings.rank**0.5
        return PlainLora(model, backbone, case.names(), case.template, gain=gain, dropout=settings.dropout)
    assert isinstance(model, PromptsrcModel)
    weights = (settings.text_weight, settings.image_weight, settings.logits_weight)
    return PlainPromptsrc(model, case.names(), case.template, weights=weights)


def median(values: list[float]) -> float:
    return statistics.median(values)
