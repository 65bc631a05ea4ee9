"""Numbers that must be right on any device before anything is timed: checks of the first stage."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from checks import (
    BF16,
    BF16_GRADIENT,
    FP32,
    Bench,
    Found,
    agree,
    apart,
    check,
    exact,
    gradients,
    losses_of,
    model_of,
    trained,
    within,
)
from made import TASKS, cells
from PIL import Image
from reference import Reference
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmap_model.data import Dataset, DatasetSpec, open_dataset
from mmap_model.data.augment import Augmentation, crop_resize, crop_resize_each
from mmap_model.forward.image import encode_images
from mmap_model.training import FusedRun
from mmap_model.training.evaluation import Evaluation
from mmap_model.training.feeding import CropFeed, PackedFeed
from mmap_model.training.pixels import Normalisation


@check
def without_prompts_the_forward_is_open_clips(bench: Bench) -> Found:
    clip, side = bench.backbone.clip, bench.backbone.image_size
    pixels = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1)).to(bench.device)
    with torch.no_grad(), exact():
        ours = encode_images(clip, pixels[None], ())[0]
        error = within(ours, clip.encode_image(pixels), FP32, "image features")
    model, _, _ = model_of(bench, "zero_shot", seeds=1)
    ids = bench.backbone.tokenize(["a photo of a thing 0.", "a photo of a thing 1."]).to(bench.device)
    with torch.no_grad(), exact():
        texts = F.normalize(clip.encode_text(ids), dim=-1)
        error_text = within(model.class_features()[0, 0, :2], texts, FP32, "class features")
    return {"image": error, "text": error_text}


@check
def prompted_forward_is_plain_concatenation(bench: Bench) -> Found:
    model, pixels, labels = model_of(bench)
    plain = Reference(
        model, [task.classes for task in bench.dataset.tasks], "a photo of a {}.", assembled=False
    )
    with exact():
        ours, theirs = losses_of(model, pixels, labels), plain.losses(pixels, labels)
        found = {"loss": within(ours, theirs, FP32, "losses")}
        pairs = zip(gradients(ours, model), gradients(theirs, model), strict=True)
        found["gradient"] = max(within(a, b, 50 * FP32, "gradients") for a, b in pairs)
    return found


@check
def bf16_is_near_fp32(bench: Bench) -> Found:
    model, pixels, _ = model_of(bench)
    with torch.no_grad():
        with exact():
            full = model.logits(pixels)
        with torch.autocast(torch.device(bench.device).type, torch.bfloat16):
            low = model.logits(pixels)
    assert low.dtype == torch.float32, "logits are fp32 under bf16 too"
    scale = float(model.logit_scale())
    worst = float((low - full).abs().max()) / scale
    assert worst <= BF16, f"a cosine is {worst:.3f} off, at most {BF16} allowed"
    return {"worst_cosine_error": worst}


@check
def gradients_in_bf16_are_as_near_to_fp32_as_plain_ones(bench: Bench) -> Found:
    """Our own autograd functions decide themselves what autocast would cast; whole blocks are the measure."""
    model, pixels, labels = model_of(bench)
    names = [task.classes for task in bench.dataset.tasks]
    plain = Reference(model, names, "a photo of a {}.", assembled=False)
    with exact():
        full = gradients(losses_of(model, pixels, labels), model)
    with torch.autocast(pixels.device.type, torch.bfloat16):
        of_plain = plain.losses(pixels, labels)
    sides = {"ours": losses_of(model, pixels, labels, "bf16"), "plain": of_plain}
    found: Found = {}
    for side, losses in sides.items():
        low = gradients(losses, model)
        assert all(gradient.dtype == torch.float32 for gradient in low), "prompts are fp32 under bf16 too"
        found[side] = max(apart(a, b) for a, b in zip(low, full, strict=True))
    assert found["ours"] <= BF16_GRADIENT * found["plain"], found
    return found


@check
def attention_runs_in_a_fused_kernel(bench: Bench) -> Found:
    """Which kernel each tower gets; the plain one would keep every probability for the backward pass."""
    model, pixels, _ = model_of(bench)
    towers = {"text": model.class_features, "image": lambda: model.image_features(pixels)}
    found: Found = {}
    for precision in ("fp32", "bf16"):
        for tower, forward in towers.items():
            with (
                torch.autocast(pixels.device.type, torch.bfloat16, enabled=precision == "bf16"),
                AttentionKernels() as seen,
            ):
                forward()
            found[f"{tower}, {precision}"] = sorted(seen.names)
            assert seen.names, "attention was not seen"
            assert not any("math" in name for name in seen.names), f"{tower}, {precision}: {seen.names}"
    return found


class AttentionKernels(TorchDispatchMode):
    """Collects the names of the attention operators that torch chose."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).split(".")[1]
        if "scaled_dot_product" in name:
            self.names.add(name.removeprefix("_scaled_dot_product_"))
        return func(*args, **(kwargs or {}))


@check
def fused_cells_are_separate_cells(bench: Bench) -> Found:
    own = cells(bench.few, batch=3)
    with exact():
        together = trained(bench, own)
        alone = {key: value for cell in own for key, value in trained(bench, [cell]).items()}
    return {"accuracy_and_nll": agree(together, alone, 1e-4)}


@check
def one_diverging_replicate_leaves_the_other_alone(bench: Bench) -> Found:
    own = cells(bench.few, batch=3)
    run = FusedRun(own, bench.backbone, bench.dataset, device=bench.device)
    with torch.no_grad():
        for parameter in run._model.parameters():
            if parameter.requires_grad:
                parameter[0].fill_(torch.nan)
    for _ in run.epochs():
        pass
    assert set(run.failed) == {own[0].key}, run.failed
    found = {key: result.metrics["nll"] for key, result in run.finish().items()}
    with exact():
        return {"nll": agree(found, trained(bench, [own[1]]), 1e-4)}


@check
def probe_gradients_are_those_of_each_task_alone(bench: Bench) -> Found:
    def first_gram(where: Bench) -> Tensor:
        own = cells(where.few, batch=3, kind="probe", seeds=1)
        run = FusedRun(own, where.backbone, where.dataset, device=where.device)
        for _ in run.epochs():
            pass
        assert run._probe is not None
        return torch.from_numpy(run._probe.stack(0).spaces["prompts"][0])

    with exact():
        gram, on_host = first_gram(bench), first_gram(Bench("cpu", bench.size))
    values = np.linalg.eigvalsh(gram.numpy())
    assert (values >= -1e-6 * np.abs(values).max()).all(), "a Gram matrix has no negative eigenvalue"
    error = within(gram, on_host, 1e-2, "the first Gram matrix against the CPU's")
    model, pixels, labels = model_of(bench, seeds=1)
    whole = gradients(losses_of(model, pixels, labels), model)
    parts = [gradients(losses_of(model, pixels, labels)[:, t], model) for t in range(labels.shape[1])]
    summed = [sum(column[1:], column[0]) for column in zip(*parts, strict=True)]
    pairs = zip(summed, whole, strict=True)
    return {"gram": error, "sum_of_tasks": max(within(a, b, 50 * FP32, "gradients") for a, b in pairs)}


@check
def a_resumed_run_is_the_uninterrupted_one(bench: Bench) -> Found:
    own = cells(bench.few, batch=3)
    first = FusedRun(own, bench.backbone, bench.dataset, device=bench.device)
    next(first.epochs())
    state = first.state()
    second = FusedRun(own, bench.backbone, bench.dataset, device=bench.device)
    second.restore(state)
    for run in (first, second):
        for _ in run.epochs():
            pass
    results = [{k: r.metrics["nll"] for k, r in run.finish().items()} for run in (first, second)]
    return {"nll": agree(results[1], results[0], 1e-5 if bench.cuda else 0.0)}


@check
def evaluation_is_the_cpus(bench: Bench) -> Found:
    indices = [[np.arange(20) for _ in bench.dataset.tasks]]
    model, _, _ = model_of(bench, "zero_shot", seeds=1)
    host = Bench("cpu", bench.size)
    plain, _, _ = model_of(host, "zero_shot", seeds=1)
    with exact():
        ours = Evaluation(bench.dataset, indices, bench.backbone).run(model, Normalisation(bench.backbone))
        theirs = Evaluation(bench.dataset, indices, host.backbone).run(plain, Normalisation(host.backbone))
    pairs = list(zip(ours[0], theirs[0], strict=True))
    worst = max(float(np.abs(a.nll - b.nll).max()) for a, b in pairs)
    assert worst <= 1e-3, f"nll of an image is {worst:.1e} off"
    same = float(np.mean([np.mean(a.classes[:, 0] == b.classes[:, 0]) for a, b in pairs]))
    assert same >= 0.99, f"only {same:.1%} of the predictions agree"
    return {"nll": worst, "equal_top1": same}


@check
def augmentation_is_the_cpus(bench: Bench) -> Found:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    augmentation = Augmentation(whole_pixels=True)
    extents = torch.full((6, 2), 40)
    boxes, mirrored = augmentation.crops(torch.from_numpy(rng.random((6, Augmentation.noise))), extents)
    canvas = torch.from_numpy(images).permute(0, 3, 1, 2).to(bench.device)
    with exact():
        found = crop_resize(
            canvas, extents.to(bench.device), boxes.to(bench.device), mirrored.to(bench.device), 16,
            torch.float32, isolated=True,
        )  # fmt: skip
    expected = crop_resize_each(images, boxes.numpy().astype(np.int64), mirrored.numpy(), 16)
    worst = float((found.cpu() - expected.float()).abs().max())
    assert worst <= 1.01, f"{worst} grey levels apart"
    return {"grey_levels": worst}


@check
def photographs_are_fed_as_on_the_cpu(bench: Bench) -> Found:
    """Crops of files, which a GPU keeps and cuts itself; and a training that is fed by them."""
    with TemporaryDirectory() as folder:
        dataset = photographs(Path(folder) / "tree", bench.backbone.image_size, Path(folder) / "cache")
        members = [np.arange(9), np.arange(4, 9), np.arange(6), np.arange(3)]
        pixels = dataset.training_pixels(members, bench.backbone.image_size)
        assert pixels is not None
        ours = PackedFeed(pixels, dataset.augmentation, bench.backbone)
        theirs = CropFeed(pixels, dataset.augmentation, Bench("cpu", bench.size).backbone)
        rng = np.random.default_rng(0)
        rows = [np.concatenate([ours.rows(0, np.array([8, 0])), ours.rows(1, np.array([4, 8]))])] * 2
        noise = [rng.random((4, dataset.augmentation.noise)) for _ in rows]
        apart = [
            (own.cpu().int() - other.int()).abs()
            for own, other in zip(ours.stream(rows, noise), theirs.stream(rows, noise), strict=True)
        ]
        worst = max(int(each.max()) for each in apart)
        share = max(float((each > 0).float().mean()) for each in apart)
        assert worst <= 2 and share < 0.02, f"{worst} grey levels apart, {share:.1%} of the pixels differ"
        own = cells(bench.few, method="vpt", batch=3)
        run = FusedRun(own, bench.backbone, dataset, device=bench.device)
        for _ in run.epochs():
            pass
        nll = {key: float(result.metrics["nll"]) for key, result in run.finish().items()}
    assert len(nll) == len(own) and np.isfinite([*nll.values()]).all(), nll
    return {"grey_levels": worst, "share_of_pixels": share}


def photographs(root: Path, side: int, cache: Path) -> Dataset:
    """Four tasks of three classes of six images, in files a little larger than the model wants them."""
    rng = np.random.default_rng(0)
    for task in TASKS:
        for name in ("fan", "mug", "tv"):
            (root / task / name).mkdir(parents=True)
            for number in range(6):
                coarse = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8))
                larger = coarse.resize((side * 5 // 4 + number, side * 5 // 4), Image.Resampling.BICUBIC)
                larger.save(root / task / name / f"{number}.png")
    return open_dataset(DatasetSpec(name="folder", root=str(root)), cache)
