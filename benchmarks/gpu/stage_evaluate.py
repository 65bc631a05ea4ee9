"""Stage 4: scoring images beside the bare image encoder, decoding them, and more than memory holds."""

from __future__ import annotations

import io
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from checks import Bench, Found, NeedsCuda, exact, failed, model_of, perform
from clock import wait_for
from made import MadeDataset, Size
from PIL import Image
from torch import Tensor

from mmap_model.data.decoding import evaluation_view, open_image
from mmap_model.training.evaluation import IMAGES_PER_BATCH, Evaluation
from mmap_model.training.pixels import Normalisation

GOALS = {"features_over_encode_image": 1.0}
STREAMED = 140_000
"""DomainNet's test images, about; 21 GB of pixels at 224 x 224."""
PHOTOGRAPHS = 256
GREY_LEVELS = 3.0
"""Mean difference allowed between two decoders and resizers of the same photograph."""


def measure(device: str, tiny: bool, keep: Callable[[Found], None]) -> Found:
    bench = Bench(device, Size.of(tiny))
    found: Found = {"goals": GOALS}
    checks = {
        "streamed_images_score_as_those_in_memory": partial(streamed_as_in_memory, bench),
        "decoding_on_the_gpu_is_that_of_the_cpu": partial(decoding_agrees, bench),
    }

    def keep_checks(so_far: Found) -> None:
        found["checks"] = so_far
        keep(found)

    perform(checks, keep_checks)
    for name, part in {"encoder": encoder, "decoding": decoding, "streaming": streaming}.items():
        found[name] = part(bench)
        keep(found)
        print(name, found[name], flush=True)
    return {**found, "failed": failed(found["checks"])}


def encoder(bench: Bench) -> Found:
    """Images a second of prompted features and of ``encode_image``, of equal batches on the device."""
    model, _, _ = model_of(bench, seeds=1)
    model.eval()
    backbone, side = bench.backbone, bench.backbone.image_size
    count = 16 if bench.size.tiny else IMAGES_PER_BATCH
    pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(5)).to(bench.device)
    by_set = pixels.view(1, model.tasks, -1, *pixels.shape[1:])
    low = backbone.in_bf16
    sides = {
        "features": lambda: model.image_features(by_set),
        "encode_image": lambda: backbone.clip.encode_image(pixels),
        "encode_image_matrices_in_bf16": lambda: low.encode_image(pixels),
    }
    with torch.no_grad(), torch.autocast(torch.device(bench.device).type, torch.bfloat16):
        rates = {name: count / seconds for name, seconds in in_turns(sides, bench.device).items()}
    return {
        "images": count,
        "images_per_second": rates,
        "features_over_encode_image": rates["features"] / rates["encode_image"],
        "features_over_encode_image_matrices_in_bf16": rates["features"]
        / rates["encode_image_matrices_in_bf16"],
    }


def in_turns(sides: dict[str, Callable[[], Any]], device: str, repeats: int = 9) -> dict[str, float]:
    """Median seconds of each side; they take turns, so that a machine's moods meet all of them."""
    wait, seconds = wait_for(device), {name: [] for name in sides}
    for turn in range(2 + repeats):
        for name, side in sides.items():
            wait()
            began = time.perf_counter()
            side()
            wait()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(found)) for name, found in seconds.items()}


class Repeated(MadeDataset):
    """As many images as wanted, all of them those of a few; read anew every time."""

    def __init__(self, size: Size, side: int, per_task: int) -> None:
        super().__init__(size, side)
        self._own = len(self._labels)
        self._per_task = per_task

    def ready(self, size: int, resize: Any = None) -> bool:
        return True  # on the CPU too nothing is kept

    def labels(self, task: str) -> npt.NDArray[np.int64]:
        return self._all_labels

    @cached_property
    def _all_labels(self) -> npt.NDArray[np.int64]:
        return self._labels[np.arange(self._per_task) % self._own]

    def images(self, task: str, indices: npt.NDArray[np.int64], size: int | None = None) -> Tensor:
        return super().images(task, indices % self._own)


def streaming(bench: Bench) -> Found:
    """Many images through a whole evaluation, and what memory that takes."""
    total = 2_000 if bench.size.tiny else STREAMED
    model, _, _ = model_of(bench, seeds=1)
    dataset = Repeated(bench.few, bench.backbone.image_size, total // model.tasks)
    indices = [[np.arange(total // model.tasks) for _ in range(model.tasks)]]
    normalise, wait = Normalisation(bench.backbone), wait_for(bench.device)
    with torch.autocast(torch.device(bench.device).type, torch.bfloat16):
        evaluation = Evaluation(dataset, indices, bench.backbone)
        assert not evaluation._bank.in_memory
        few = [[own[: len(own) // 10] for own in indices[0]]]
        Evaluation(dataset, few, bench.backbone).run(model, normalise)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wait()
        began = time.perf_counter()
        evaluation.run(model, normalise)
        seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "images": total,
        "seconds": seconds,
        "images_per_second": total / seconds,
        "host_memory_grew_mb": (after - before) / 1024,
        "device_peak_gb": torch.cuda.max_memory_allocated() / 1e9 if bench.cuda else None,
    }


def streamed_as_in_memory(bench: Bench) -> Found:
    model, _, _ = model_of(bench, seeds=1)
    side = bench.backbone.image_size
    indices = [[np.arange(40) for _ in range(model.tasks)]]
    normalise = Normalisation(bench.backbone)
    kept = Evaluation(bench.dataset, indices, bench.backbone)
    read = Evaluation(Repeated(bench.few, side, 40), indices, bench.backbone)
    if bench.cuda:
        read._bank._kept = None  # so few would be kept there
    assert kept._bank.in_memory and not read._bank.in_memory
    with exact():
        both = [evaluation.run(model, normalise)[0] for evaluation in (kept, read)]
    worst = max(float(np.abs(a.nll - b.nll).max()) for a, b in zip(*both, strict=True))
    assert worst == 0.0, f"nll of an image is {worst:.1e} off"
    return {"nll": worst}


def photographs(count: int, tiny: bool) -> list[bytes]:
    """JPEG files as cameras make them: smooth with some grain, 640 x 480, quality 90."""
    rng = np.random.default_rng(0)
    width, height = (64, 48) if tiny else (640, 480)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        grain = rng.integers(-8, 9, (height, width, 1))
        file = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def on_cpu(file: bytes, side: int) -> npt.NDArray[np.uint8]:
    """As evaluation reads a file: [side, side, 3]."""
    return np.asarray(evaluation_view(open_image(io.BytesIO(file), "made"), side))


def on_gpu(files: list[bytes], side: int, device: str) -> Tensor:
    """The same by the GPU's decoder: uint8 [n, 3, side, side]."""
    from torchvision.io import ImageReadMode, decode_jpeg

    encoded = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    images = torch.stack(decode_jpeg(encoded, ImageReadMode.RGB, device=device)).float()
    height, width = images.shape[2:]
    wide = side * width // height
    small = F.interpolate(images, (side, wide), mode="bicubic", antialias=True)
    left = round((wide - side) / 2)
    return small[..., left : left + side].round().clamp(0, 255).to(torch.uint8)


def decoding(bench: Bench) -> Found:
    """Images a second from files to evaluation views."""
    side = bench.backbone.image_size
    files = photographs(16 if bench.size.tiny else PHOTOGRAPHS, bench.size.tiny)
    threads = torch.get_num_threads()
    began = time.perf_counter()
    for file in files:
        on_cpu(file, side)
    found: Found = {"files": len(files), "cpu_one_thread": len(files) / (time.perf_counter() - began)}
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(lambda file: on_cpu(file, side), files))
        found |= {"threads": threads, "cpu_threads": len(files) / (time.perf_counter() - began)}
    found["gpu"] = None
    if bench.cuda:
        try:
            seconds = in_turns({"gpu": lambda: on_gpu(files, side, bench.device)}, bench.device, 3)["gpu"]
            found["gpu"] = len(files) / seconds
        except RuntimeError as error:  # a build without nvJPEG
            found["gpu_error"] = str(error).splitlines()[0]
    return found


def decoding_agrees(bench: Bench) -> Found:
    if not bench.cuda:
        raise NeedsCuda
    side = bench.backbone.image_size
    files = photographs(8, bench.size.tiny)
    expected = torch.from_numpy(np.stack([on_cpu(file, side) for file in files])).permute(0, 3, 1, 2)
    apart = (on_gpu(files, side, bench.device).cpu().float() - expected.float()).abs()
    assert apart.mean() <= GREY_LEVELS, f"{apart.mean():.1f} grey levels apart on average"
    return {"grey_levels": float(apart.mean()), "worst": float(apart.max())}
