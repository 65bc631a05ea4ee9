"""Measure the shipped CLIP of `symbols` and write results.json.

    python benchmarks/symbols_clip/evaluate.py               # zero-shot, cost of insertion, prompt tuning
    python benchmarks/symbols_clip/evaluate.py --fine-tune   # adds full-data fine-tuning of all weights

Test images are the last 14 of the 30 per class and domain. Fine-tuning shows that the images can be read: it
trains on the first 16 and on freshly rendered images of the same classes and domains under other seeds.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import scores
import torch
from open_clip import CLIP
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from towers import encode_images, encode_texts

from mmap_model.symbols.glyphs import BENCHMARK_GLYPHS
from mmap_model.symbols.renderer import DOMAINS, render
from mmap_model.symbols.weights import CLIP_DIR, benchmark_sha256, weights_sha256

RESULTS = Path(__file__).parent / "results.json"
SEEDS = range(10)
FRESH_SEED = 3
LOOKUP = {token: token for token in range(49408)}


def shipped() -> CLIP:
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{CLIP_DIR}", precision="fp32")
    return model.eval()


def rounded(result: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in result.items()}


def insertion_costs(model: CLIP, test: scores.Data, zero_shot: float) -> dict[str, dict[str, float]]:
    """Points of the task average lost by 8 fresh random MmAP prompts per layer, over 10 initialisations."""
    plain = scores.image_features(model, test)
    lost: dict[str, list[float]] = {}
    for name, size in (("entries_0.02", 1.0), ("entries_0.0004", 0.02)):
        for seed in SEEDS:
            texts, images = scores.kronecker_prompts(seed, size)
            prompted = scores.image_features(model, test, images)
            for where, features, inserted in (
                ("text", plain, texts),
                ("image", prompted, None),
                ("both", prompted, texts),
            ):
                found = scores.accuracies(model, LOOKUP, test, features, inserted=inserted)
                lost.setdefault(f"{name}_{where}", []).append(zero_shot - found["mean"])
    return {
        key: {"mean": round(statistics.mean(values), 1), "worst": round(max(values), 1)}
        for key, values in lost.items()
    }


def shuffled(count: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    yield from torch.randperm(count, generator=rng).split(batch)


def tuned(
    model: CLIP, train: scores.Data, test: scores.Data, shots: int, size: float, lr: float, epochs: int = 5
) -> dict[str, float]:
    """Deep MmAP prompts (8 per layer and tower) tuned by SGD for each domain alone; percent correct."""
    model.requires_grad_(False)
    result = {}
    for domain in train:
        rng = torch.Generator().manual_seed(1)
        source = nn.Parameter(torch.randn(2, 32, generator=rng) * 0.02)
        text_scales = nn.Parameter(torch.randn(4, 4, 3, generator=rng) * size)
        image_scales = nn.Parameter(torch.randn(4, 4, 4, generator=rng) * size)
        optimiser = torch.optim.SGD([source, text_scales, image_scales], lr=lr, momentum=0.9)
        keep = torch.arange(len(train[domain][1])) % scores.TEST_FROM < shots
        pixels, labels = train[domain][0][keep], train[domain][1][keep]
        ids, ends = scores.prompts(scores.TEMPLATE, LOOKUP)
        steps = epochs * -(-len(labels) // 32)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(epochs):
            for chosen in shuffled(len(labels), 32, rng):
                texts = encode_texts(model, ids, ends, [torch.kron(scale, source) for scale in text_scales])
                images = encode_images(
                    model, pixels[chosen], [torch.kron(scale, source) for scale in image_scales]
                )
                loss = cross_entropy(images @ texts.T * model.logit_scale.exp(), labels[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            only = {domain: test[domain]}
            features = scores.image_features(
                model, only, [torch.kron(scale, source) for scale in image_scales]
            )
            inserted = [torch.kron(scale, source) for scale in text_scales]
            found = scores.accuracies(model, LOOKUP, only, features, inserted=inserted)
        result[domain] = found[domain]
    return {**result, "mean": sum(result.values()) / len(result)}


def fine_tuned(
    model: CLIP, train: scores.Data, test: scores.Data, per_class: int, epochs: int
) -> dict[str, float]:
    """All weights trained on all domains: the first 16 and `per_class` fresh images per class."""
    model.requires_grad_(True)
    fresh = [
        render(glyph, domain, (FRESH_SEED, i))
        for domain in DOMAINS
        for glyph in BENCHMARK_GLYPHS
        for i in range(per_class)
    ]
    fresh_labels = torch.arange(65).repeat_interleave(per_class).repeat(len(DOMAINS))
    pixels = torch.cat(
        [scores.normalised(torch.from_numpy(np.stack(fresh))), *(p for p, _ in train.values())]
    )
    labels = torch.cat([fresh_labels, *(y for _, y in train.values())])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    steps = epochs * -(-len(labels) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-4, total_steps=steps, pct_start=0.1)
    ids, ends = scores.prompts(scores.TEMPLATE, LOOKUP)
    rng = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for chosen in shuffled(len(labels), 128, rng):
            with (
                torch.autocast("cpu", torch.bfloat16),
                nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH),
            ):
                images = encode_images(model, pixels[chosen], keep=48)
                texts = encode_texts(model, ids, ends)
            loss = cross_entropy(
                images @ texts.T * model.logit_scale.exp(), labels[chosen], label_smoothing=0.05
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return scores.accuracies(model, LOOKUP, test, scores.image_features(model, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--fresh-per-class", type=int, default=84, help="fresh images per class and domain")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    started = time.monotonic()
    model = shipped()
    train, test = scores.load()
    if args.fine_tune:
        found = rounded(fine_tuned(model, train, test, args.fresh_per_class, args.epochs))
        print(found, flush=True)
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
        assert results["weights_sha256"] == weights_sha256(), "run without --fine-tune first"
        results["fine_tuned"] = {
            "images_per_class_and_domain": scores.TEST_FROM + args.fresh_per_class,
            "epochs": args.epochs,
            **found,
            "seconds": round(time.monotonic() - started),
        }
    else:
        results = measured(model, train, test)
        results["seconds"] = round(time.monotonic() - started)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def measured(model: CLIP, train: scores.Data, test: scores.Data) -> dict[str, object]:
    """Everything but fine-tuning, with the hashes of what was measured."""
    features = scores.image_features(model, test)
    zero_shot = scores.accuracies(model, LOOKUP, test, features)
    own_words = scores.accuracies(model, LOOKUP, test, features, scores.OWN_WORDS)
    return {
        "weights_sha256": weights_sha256(),
        "benchmark_sha256": benchmark_sha256(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
        },
        "logit_scale": round(model.logit_scale.exp().item(), 1),
        "zero_shot": rounded(zero_shot),
        "own_words": rounded(own_words),
        "points_lost_by_inserting_8_prompts": insertion_costs(model, test, zero_shot["mean"]),
        "prompts_tuned_5_epochs": {
            f"shots_{shots}_scale_init_{size}": rounded(tuned(model, train, test, shots, size, 0.05))
            for shots, size in ((6, 0.02), (6, 1.0))
        },
    }


if __name__ == "__main__":
    main()
