"""What every tuning method keeps, on tiny random CLIPs: three tasks with unequal class lists.

    check_method("gain.py:FeatureGain", [{}, {"regime": "single"}])

Text width 32, image width 48, three layers, embedding width 24. Two replicates train at once where the method
fuses; those of a grouped method have different partitions. Each check asserts one property in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.cells import Cell, Configuration, Point
from mmap_model.checkpoint import load_prompts, pack_prompts
from mmap_model.configuration import Partition, Recipe, Seeds, Split
from mmap_model.inference.tower import DeployedClassifier
from mmap_model.methods import Method, Problem, ProblemSize, get_method
from mmap_model.methods.model import TunedModel
from mmap_model.testing.comparing import assert_near, same_tensors, weights_of
from mmap_model.testing.patterns import PatternDataset
from mmap_model.testing.support import CLASSES, IMAGES, NoiseSupport
from mmap_model.training import FusedRun, score_test
from mmap_model.training.optimiser import ReplicateOptimiser
from mmap_model.training.step import TrainingStep

PARTITIONS: tuple[Partition, ...] = (((0, 2), (1,)), ((0, 1, 2),))
STEPS = 20
LEAST_DROP = 0.01
FINE = Recipe(epochs=2, batch_size=4, lr=0.01)
_FEW = {"fan": 6, "tv": 6}
_IMAGES = {"art": ("warm", {"mug": 6, **_FEW}), "photo": ("cold", {"mug": 6, **_FEW}), "map": ("cold", _FEW)}


@dataclass(frozen=True)
class Subject:
    """One method with settings.

    Attributes:
        name: registered, or ``file.py:MyMethod``, ``my_module:MyMethod``.
        settings: that differ from the defaults; they must fit the tiny CLIPs.
        least_drop: nats by which 20 steps at the default learning rate must lower the loss of a fixed batch,
            summed over its three tasks, of every replicate.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    least_drop: float = LEAST_DROP

    @property
    def method(self) -> Method:
        return get_method(self.name)

    @property
    def seeds(self) -> list[int]:
        """Of the replicates: 1 and 2; 1 alone for a method that does not fuse."""
        return [1, 2] if self.method.fuses else [1]

    @property
    def configurations(self) -> list[Configuration]:
        """One per replicate."""
        point = Point.from_dict({"method": self.name, "settings": dict(self.settings)})
        grouped = self.method.needs_partition(point.settings)
        partitions: Iterable[Partition | None] = PARTITIONS if grouped else (None, None)
        return [
            Configuration(method=self.name, settings=point.settings, recipe=FINE, partition=partition)
            for _, partition in zip(self.seeds, partitions, strict=False)
        ]

    def build(
        self, backbone: Backbone, seeds: Sequence[int], replicates: Sequence[int] | None = None
    ) -> TunedModel:
        """A model of some replicates (all if None) with these train seeds."""
        known = self.configurations
        given = known if replicates is None else [known[r] for r in replicates]
        model = self.method.build(
            given[0].settings,
            backbone,
            Problem(
                classes=CLASSES,
                template=FINE.template,
                partitions=[c.partition for c in given],
                train_seeds=seeds,
                images=IMAGES,
            ),
        )
        if model.fits:
            model.fit(NoiseSupport(seeds, backbone))
        return model


def check_method(
    name: str, settings: Sequence[Mapping[str, Any]] = ({},), *, least_drop: float = LEAST_DROP
) -> None:
    """Run every check on a method.

    Args:
        name: registered, or ``file.py:MyMethod``, ``my_module:MyMethod``.
        settings: several choices of settings, each checked; what one leaves out is as by default.
        least_drop: see ``Subject``.

    Raises:
        AssertionError: naming the settings, the check, and what does not hold.
        InputError: the method or its settings are none.
    """
    for chosen in settings:
        for title, check in CHECKS.items():
            try:
                check(Subject(name, chosen, least_drop))
            except AssertionError as failure:
                raise AssertionError(f"{name} {dict(chosen)}: {title}: {failure}") from failure


def settings_survive_json(subject: Subject) -> None:
    for configuration in subject.configurations:
        again = Configuration.from_dict(configuration.to_dict())
        assert again == configuration, f"{configuration.settings} came back as {again.settings}"


def logits_are_finite_exactly_where_a_task_has_classes(subject: Subject) -> None:
    model, pixels = subject.build(_double(), subject.seeds), _pixels(subject)
    replicates = len(subject.seeds)
    logits, mask = model.logits(pixels), model.class_mask
    assert torch.equal(mask.sum(1), torch.tensor([len(c) for c in CLASSES])), "class_mask differs"
    assert logits.shape == (replicates, 3, 2, 5), f"logits are {tuple(logits.shape)}, not [R, T, B, C]"
    assert torch.equal(logits.isfinite(), mask[None, :, None].expand_as(logits)), "finite elsewhere"
    assert model.class_features().shape[:3] == (replicates, 3, 5), "class_features are not [R, T, C, E]"
    assert model.image_features(pixels).shape[:3] == (replicates, 3, 2), "image_features: not [R, T, B, E]"
    for features in (model.class_features(), model.image_features(pixels)):
        norms = features.norm(dim=-1)
        torch.testing.assert_close(norms, torch.ones_like(norms), msg="features are not of unit length")


def the_count_is_that_of_the_trained_tensors(subject: Subject) -> None:
    backbone = _double()
    model = subject.build(backbone, subject.seeds)
    trains = subject.method.trains
    for replicate, configuration in enumerate(subject.configurations):
        size = ProblemSize(
            tasks=len(CLASSES),
            groups=len(configuration.partition or ()),
            classes=CLASSES,
            images=IMAGES,
            partition=configuration.partition,
        )
        counted = subject.method.parameters(configuration.settings, backbone.architecture, size)
        state, fitted = model.replicate_state(replicate), model.fitted()
        trained = sum(tensor.numel() for name, tensor in state.items() if name not in fitted)
        assert trained == counted, f"count says {counted}, replicate_state holds {trained}"
        assert trains == (counted > 0), f"trains is {trains} with {counted} parameters"
    assert all(p.requires_grad for p in model.parameters()), "a parameter is not trained"


def the_train_seed_alone_decides_the_start(subject: Subject) -> None:
    seeds = subject.seeds
    torch.manual_seed(0)
    first = subject.build(_double(), seeds)
    torch.manual_seed(1)
    order = list(reversed(range(len(seeds))))
    again = subject.build(_double(), [seeds[r] for r in order], order)
    for place, replicate in enumerate(order):
        same_tensors(
            first.replicate_state(replicate), again.replicate_state(place), "depends on more than its seed"
        )


def every_trained_tensor_gets_a_gradient(subject: Subject) -> None:
    """In the first step, or in the second where some tensor starts at exactly zero; in one of the stages."""
    model, pixels = subject.build(_double(), subject.seeds), _pixels(subject)
    parameters = dict(model.named_parameters())
    moved = {name: torch.zeros(len(p), dtype=torch.bool) for name, p in parameters.items()}
    starts_at_zero = any((p.detach() == 0).all() for p in parameters.values())
    for stage in range(1 + len(model.stages)):
        if stage:
            model.enter_stage(stage)
        for _ in range(1 + starts_at_zero):
            model.zero_grad()
            losses = _losses(model, pixels).sum()
            assert losses.requires_grad == subject.method.trains, (
                "the loss does not depend on what is trained"
            )
            if losses.requires_grad:
                losses.backward()
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
                    moved[name] |= parameter.grad.flatten(1).abs().amax(1) > 0
            _train(model, pixels, 1)
    for name, by_replicate in moved.items():
        assert by_replicate.all(), (
            f"{name} gets no gradient in replicates {(~by_replicate).nonzero().tolist()}"
        )


def twenty_steps_lower_the_loss_and_leave_the_backbone(subject: Subject) -> None:
    """At the default learning rate, by ``least_drop``; a second time with the same bits."""
    if not subject.method.trains:
        return
    frozen = weights_of(_double())
    drops, states = [], []
    for _ in range(2):
        model, pixels = subject.build(_double(), subject.seeds), _pixels(subject)
        before = _losses(model, pixels).sum(1).detach()
        _train(model, pixels, STEPS)
        drops.append((before - _losses(model, pixels).sum(1)).min().item())
        states.append(model.state_dict())
    assert drops[0] >= subject.least_drop, f"fell by {drops[0]:.4f} nats, less than {subject.least_drop}"
    same_tensors(states[0], states[1], "differs when trained again")
    same_tensors(frozen, weights_of(_double()), "of the backbone has changed")


def fused_replicates_equal_separate_ones(subject: Subject) -> None:
    """Losses and what three steps make of the parameters, to 1e-9 in float64."""
    if not subject.method.fuses:
        return
    pixels = _pixels(subject)
    fused = subject.build(_double(), subject.seeds)
    losses = _losses(fused, pixels)
    _train(fused, pixels, 3)
    for replicate, seed in enumerate(subject.seeds):
        own = pixels[replicate : replicate + 1]
        alone = subject.build(_double(), [seed], [replicate])
        assert_near(losses[replicate], _losses(alone, own)[0], "the loss of a replicate alone")
        _train(alone, own, 3)
        state, expected = fused.replicate_state(replicate), alone.replicate_state(0)
        assert state.keys() == expected.keys(), "replicate_state has other names"
        for name, tensor in expected.items():
            assert_near(state[name], tensor, f"{name} of a replicate alone")


def a_step_in_parts_is_the_whole_step(subject: Subject) -> None:
    """Image by image and with checkpoints: the same losses, and parameters to 1e-9 in float64."""
    if not subject.method.trains:
        return
    pixels, found = _pixels(subject), []
    labels = torch.zeros(pixels.shape[:3], dtype=torch.int64)
    for images, checkpoint in ((pixels.shape[2], False), (1, False), (1, True)):
        model = subject.build(_double(), subject.seeds)
        model.execution = replace(model.execution, checkpoint=checkpoint)
        sgd = ReplicateOptimiser(dict(model.named_parameters()), FINE, tasks=len(CLASSES))
        step = TrainingStep(model, sgd, lambda given: given, nullcontext)
        step.images = images
        found.append((step.take(pixels, labels), dict(model.named_parameters())))
    (losses, whole), *others = found
    for own_losses, parameters in others:
        assert_near(own_losses, losses, "the loss of a step in parts")
        for name, parameter in parameters.items():
            assert_near(parameter.detach(), whole[name].detach(), f"{name} after a step in parts")


def what_is_saved_is_what_was_trained(subject: Subject) -> None:
    """Bit for bit, and loaded it gives the same logits."""
    backbone = _single()
    tasks = {f"task {t}": names for t, names in enumerate(CLASSES)}
    model, pixels = subject.build(backbone, subject.seeds), _pixels(subject).float()
    _train(model, pixels, 1)
    logits = model.eval().logits(pixels)
    for replicate, configuration in enumerate(subject.configurations):
        files = pack_prompts(
            model, replicate, configuration=configuration, tasks=tasks, backbone=backbone, images=IMAGES
        )
        loaded = load_prompts(files, backbone)
        same_tensors(model.replicate_state(replicate), loaded.replicate_state(0), "comes back changed")
        torch.testing.assert_close(loaded.logits(pixels[replicate : replicate + 1])[0], logits[replicate])


def what_is_deployed_is_what_was_trained(subject: Subject) -> None:
    """Cosines to 1e-9 in float64, of a batch that mixes tasks and of some tasks alone."""
    for replicate, seed in enumerate(subject.seeds):
        model = subject.build(_double(), [seed], [replicate])
        _train(model, _pixels(subject)[:1].expand(1, -1, -1, -1, -1, -1), 1)
        pixels, task = _pixels(subject)[0].flatten(0, 1), torch.tensor([0, 1, 2, 0, 1, 2])
        model.eval()
        with torch.no_grad():
            every = model.logits(pixels.expand(1, len(CLASSES), *pixels.shape))[0]
            scale = model.logit_scale().expand(1, len(CLASSES), 1, 1).flatten()
            for tasks in ((0, 1, 2), (2, 0)):
                rows = torch.tensor([task_ in tasks for task_ in task.tolist()])
                places = torch.tensor([tasks.index(t) for t in task[rows].tolist()])
                found = DeployedClassifier.of(model, tasks)(pixels[rows], places)
                wanted = every[task[rows], rows.nonzero().flatten(), : found.shape[1]]
                assert torch.equal(found.isfinite(), wanted.isfinite()), "finite elsewhere"
                apart = ((found - wanted) / scale[task[rows], None])[wanted.isfinite()].abs().max().item()
                assert apart <= 1e-9, f"cosines of tasks {tasks} are {apart:.1e} away from those of logits"


def logits_are_full_precision_under_bf16(subject: Subject) -> None:
    pixels = _pixels(subject).float()
    exact = subject.build(_single(), subject.seeds).logits(pixels)
    model = subject.build(_single(), subject.seeds)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(pixels)
    assert logits.dtype == torch.float32, f"logits are {logits.dtype}"
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.5)


def constant_images_are_constant(subject: Subject) -> None:
    """With ``constant_images``, no training changes ``image_embeddings``, and they lead to the features."""
    model, pixels = subject.build(_double(), subject.seeds), _pixels(subject)
    if not model.constant_images:
        return
    before = model.image_embeddings(pixels)
    assert not before.requires_grad, "image_embeddings depend on what is trained"
    if subject.method.trains:
        _train(model, pixels, 3)
    embeddings = model.image_embeddings(pixels)
    assert torch.equal(before, embeddings), "training changes image_embeddings"
    finished = model.finish_images(embeddings)
    assert torch.equal(finished, model.image_features(pixels)), "finish_images leads elsewhere"
    assert torch.equal(before, embeddings), "finish_images changes the embeddings that it is given"


def the_training_loop_trains_resumes_and_scores_it(subject: Subject) -> None:
    """Resumed from the first epoch every file is the same, bit for bit; the backbone stays as it is."""
    dataset, backbone = PatternDataset(_IMAGES), _single()
    cells = [
        Cell(
            configuration=configuration,
            split=Split(shots=2),
            seeds=Seeds.both(seed),
            dataset=dataset.manifest,
            backbone="tiny",
        )
        for seed, configuration in zip(subject.seeds, subject.configurations, strict=True)
    ]
    frozen = weights_of(backbone)
    whole, first, resumed = (FusedRun(cells, backbone, dataset) for _ in range(3))
    epochs = len(list(whole.epochs()))
    assert epochs == (FINE.epochs if subject.method.trains else 1), f"reported {epochs} epochs"
    assert not whole.failed, f"training failed: {whole.failed}"
    next(first.epochs())
    resumed.restore(first.state())
    list(resumed.epochs())
    results, again = whole.finish(), resumed.finish()
    for key, result in results.items():
        assert result.files == again[key].files, "a resumed run gives other files"
        assert 0 <= result.metrics["accuracy"] <= 1
    files = {key: result.files for key, result in results.items()}
    assert set(score_test(cells, files, backbone, dataset)) == {cell.key for cell in cells}
    same_tensors(frozen, weights_of(backbone), "of the backbone has changed")


CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        settings_survive_json,
        logits_are_finite_exactly_where_a_task_has_classes,
        the_count_is_that_of_the_trained_tensors,
        the_train_seed_alone_decides_the_start,
        every_trained_tensor_gets_a_gradient,
        twenty_steps_lower_the_loss_and_leave_the_backbone,
        fused_replicates_equal_separate_ones,
        a_step_in_parts_is_the_whole_step,
        what_is_saved_is_what_was_trained,
        what_is_deployed_is_what_was_trained,
        logits_are_full_precision_under_bf16,
        constant_images_are_constant,
        the_training_loop_trains_resumes_and_scores_it,
    )
}
"""All checks by name."""


@cache
def _double() -> Backbone:
    return random_backbone(dtype=torch.float64, seed=3)


@cache
def _single() -> Backbone:
    return random_backbone(seed=3)


def _pixels(subject: Subject) -> Tensor:
    """A fixed batch of two images per task and replicate, fp64."""
    shape = (len(subject.seeds), len(CLASSES), 2, 3, 16, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _losses(model: TunedModel, pixels: Tensor) -> Tensor:
    """Mean cross-entropy [R, T], every image being of the first class."""
    return -model.logits(pixels).log_softmax(-1)[..., 0].mean(-1)


def _train(model: TunedModel, pixels: Tensor, steps: int) -> None:
    """Steps of the training loop's optimiser on one batch at the default, constant learning rate."""
    parameters = dict(model.named_parameters())
    if not parameters:
        return
    sgd = ReplicateOptimiser(parameters, Recipe(schedule="constant", warmup_epochs=0), tasks=len(CLASSES))
    sgd.start_epoch(1)
    for _ in range(steps):
        sgd.step(_losses(model, pixels))
