"""Train the second, longer-trained CLIP of `symbols` on a GPU, within a limit of wall clock.

    python benchmarks/symbols_clip/train.py --out DIR --limit 115                  # renders, trains, scores
    python benchmarks/symbols_clip/train.py --out DIR --limit 115 --resume         # goes on where it stopped
    python benchmarks/symbols_clip/train.py --export DIR                           # ships DIR's weights
    python benchmarks/symbols_clip/train.py --device cpu --out DIR --tiny          # the same code anywhere

The same towers as the first CLIP, other images, captions and initial weights, and about ten times the
examples. The length of the schedule is `--steps`; left out, it is what fits into the limit at the speed
measured after MEASURED_FROM steps, and is written into the checkpoint. Given steps, seed and machine, the
weights are the same bytes: draws are keyed by the step, and no kernel sums in a varying order (`--repeat`
checks this). A run that is stopped by its limit ends with exit code 3 and a checkpoint.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; makes it repeatable

import scores
import tables
import torch
from mixing import Mixer, keyed
from open_clip import CLIP
from steps import Step, parameter_groups, shape_of
from towers import build, export

from mmap_model.symbols.glyphs import GLYPHS

BANK_SEED, CAPTION_SEEDS = 5, (6, 7)
"""Other seeds than those of the benchmark's images, of the first CLIP's and of fine-tuning."""
WARM_UP, EASE = 400, 1500
"""Steps until the rate is reached, and until captions and noise are as in the end."""
ENDING = 0.05
"""The last share of the schedule, which sees whole images."""
MEASURED_FROM, MEASURED_TO = 500, 700
RESERVE = 6
"""Seconds kept for scoring and saving."""
STOPPED = 3
"""Exit code of a run that is to go on."""
LENGTH = ("steps", "batch", "lr", "seed", "style_free", "photo_free")


class Training:
    """A run: model, optimiser, where it stands, and its folder."""

    def __init__(self, options: argparse.Namespace, started: float) -> None:
        self.options, self.started, self.out = options, started, Path(options.out)
        self.device = torch.device(options.device)
        self.words = tables.words()
        torch.manual_seed(options.seed)
        self.model = build(len(self.words)).train().to(self.device)
        with torch.no_grad():
            self.model.logit_scale.fill_(math.log(14))
        self.optimiser = self._optimiser()
        self.step, self.total, self.seconds_before = 0, options.steps, 0.0
        self.losses: list[float] = []
        if options.resume:
            self._restore()

    @property
    def seconds(self) -> float:
        """Of wall clock in this process."""
        return time.monotonic() - self.started

    def run(self, mixer: Mixer, *, until: int | None = None) -> bool:
        """Train to the end of the schedule; False where the limit or the step ``until`` came first."""
        options = self.options
        runner = Step(self.model, self.optimiser, options.batch, options.seed, graphs=options.graphs)
        measured = saved = self.seconds
        while self.step != (self.total if until is None else until):
            eased = min(1.0, self.step / EASE)
            progress = self.step / (self.total or math.inf)
            shape = shape_of(options.seed, self.step, eased, ending=progress >= 1 - ENDING)
            batch = mixer.draw(shape.length, eased, keyed(self.device, options.seed, self.step))
            self._set_rate(progress)
            runner.run(shape, batch, self.step)
            self.step += 1
            if self.step == MEASURED_FROM:
                self._synchronise()
                measured = self.seconds
            if self.total is None and self.step == MEASURED_TO:
                self._synchronise()
                each = (self.seconds - measured) / (MEASURED_TO - MEASURED_FROM)
                self.total = self.step + int((options.limit - RESERVE - self.seconds) / each)
                print(f"{each * 1000:.1f} ms a step: {self.total} steps fit", flush=True)
            if self.step % 50 == 0:
                self.losses.append(runner.loss.item())
                if self.step % 500 == 0:
                    self._say()
                if options.limit and self.seconds > options.limit - 2:
                    break
                if self.seconds - saved > 30:
                    self.save()
                    saved = self.seconds
        self._synchronise()
        return self.step == self.total

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds_before + self.seconds,
            "vocabulary": self.words,
            "settings": {name: getattr(self.options, name) for name in LENGTH},
        }
        torch.save(state, self.out / "new.pt")
        (self.out / "new.pt").replace(self.out / "checkpoint.pt")

    def finish(self) -> None:
        """Save, and write what `ship` reads: the weights without the optimiser."""
        self.save()
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        torch.save({"model": weights, "vocabulary": self.words, "step": self.step}, self.out / "weights.pt")

    def sha256(self) -> str:
        """Of all weights as they are."""
        digest = hashlib.sha256()
        for tensor in self.model.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _optimiser(self) -> torch.optim.AdamW:
        """Rates are tensors, so that a recorded step reads the current one."""
        groups = parameter_groups(self.model)
        for group in groups:
            group["lr"] = torch.tensor(0.0, device=self.device)
        on_gpu = self.device.type == "cuda"
        return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True, capturable=on_gpu)

    def _set_rate(self, progress: float) -> None:
        rate = min(1.0, (self.step + 1) / WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        for group in self.optimiser.param_groups:
            group["lr"].fill_(self.options.lr * group["factor"] * rate)

    def _restore(self) -> None:
        saved = torch.load(self.out / "checkpoint.pt", map_location="cpu", weights_only=True)
        for name in LENGTH[1:]:
            if saved["settings"][name] != getattr(self.options, name):
                sys.exit(f"--{name.replace('_', '-')} was {saved['settings'][name]}: resume with the same")
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        for group in self.optimiser.param_groups:
            group["lr"] = torch.tensor(0.0, device=self.device)
        self.step, self.total, self.seconds_before = saved["step"], saved["total"], saved["seconds"]

    def _say(self) -> None:
        scale = self.model.logit_scale.exp().item()
        mean = sum(self.losses[-10:]) / len(self.losses[-10:])
        of = f" of {self.total}" if self.total else ""
        print(f"step {self.step}{of} loss {mean:.3f} scale {scale:.1f} {self.seconds:.0f} s", flush=True)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def train(options: argparse.Namespace) -> int:
    """Render and write captions in processes, then train, score and save; the exit code."""
    started = time.monotonic()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    processes = options.processes or os.cpu_count() or 1
    images = tables.images(
        options.per_domain,
        options.per_style,
        options.per_benchmark_style,
        seed=BANK_SEED,
        store=Path(options.bank or out / "bank.npy"),
        processes=processes,
    )
    plain, filled = (
        tables.captions(filler, options.photo_free, per_cell=options.captions, seed=seed, processes=processes)
        for filler, seed in zip((0.0, 0.7), CAPTION_SEEDS, strict=True)
    )
    test = scores.load(processes)[1]
    prepared = time.monotonic() - started
    print(
        f"{len(images.pixels)} images and captions of {len(GLYPHS)} classes in {prepared:.0f} s", flush=True
    )
    torch.backends.cudnn.deterministic = True
    training = Training(options, started)
    mixer = Mixer(
        images, plain, filled, size=options.batch, style_free=options.style_free, device=training.device
    )
    if options.repeat:
        return repeat(options, mixer, started)
    done = training.run(mixer, until=options.until)
    if not done:
        training.save()
        print(f"stopped at step {training.step} of {training.total}: go on with --resume", flush=True)
        return STOPPED
    training.finish()
    record = {
        "steps": training.total,
        "examples": training.total * options.batch,
        "settings": {name: getattr(options, name) for name in LENGTH[1:]},
        "images": len(images.pixels),
        "seconds": round(training.seconds_before + training.seconds),
        "seconds_before_training": round(prepared),
        "device": torch.cuda.get_device_name() if training.device.type == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "loss": round(sum(training.losses[-10:]) / max(1, len(training.losses[-10:])), 4),
        "scale": round(training.model.logit_scale.exp().item(), 2),
        "sha256": training.sha256(),
        **scored(training.model, test, training.words),
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record), flush=True)
    return 0


def repeat(options: argparse.Namespace, mixer: Mixer, started: float) -> int:
    """Train some steps twice from the start; 1 unless the weights are the same bytes."""
    found = []
    for _ in range(2):
        training = Training(options, started)
        training.run(mixer, until=options.repeat)
        found.append(training.sha256())
    same = found[0] == found[1]
    print(f"{options.repeat} steps twice: {'the same weights' if same else 'other weights'} {found}")
    return int(not same)


@torch.no_grad()
def scored(model: CLIP, test: scores.Data, words: list[int]) -> dict[str, Any]:
    """Percent correct on the benchmark's test images, zero-shot and with each domain's own words."""
    model.eval()
    device = model.logit_scale.device
    lookup = {token: row for row, token in enumerate(words)}
    there = {domain: (pixels.to(device), labels.to(device)) for domain, (pixels, labels) in test.items()}
    features = scores.image_features(model, there)
    return {
        "zero_shot": scores.accuracies(model, lookup, there, features),
        "own_words": scores.accuracies(model, lookup, there, features, scores.OWN_WORDS),
    }


def ship(run: Path) -> None:
    """Write the weights of a run for open_clip, and freeze them by hash."""
    from mmap_model.symbols.weights import CLIP_DIR, LONG_CLIP_DIR, freeze, weights_sha256

    LONG_CLIP_DIR.mkdir(exist_ok=True)
    shutil.copy(CLIP_DIR / "open_clip_config.json", LONG_CLIP_DIR)
    saved = torch.load(run / "weights.pt", weights_only=True)
    print(export(saved["model"], saved["vocabulary"], LONG_CLIP_DIR), "step", saved["step"])
    freeze(long_weights_sha256=weights_sha256(LONG_CLIP_DIR))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="/tmp/symbols_long")
    parser.add_argument("--export", metavar="DIR", type=Path, help="ship DIR/weights.pt and stop")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--limit", type=float, default=0, help="seconds of wall clock, rendering included")
    parser.add_argument("--steps", type=int, help="of the schedule; left out: what fits into the limit")
    parser.add_argument("--until", type=int, metavar="STEP", help="stop there, to go on with --resume")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--style-free", type=float, default=0.2)
    parser.add_argument("--photo-free", type=float, default=0.15)
    parser.add_argument("--per-domain", type=int, default=120, help="images per class and domain")
    parser.add_argument("--per-style", type=int, default=30)
    parser.add_argument("--per-benchmark-style", type=int, default=150)
    parser.add_argument("--captions", type=int, default=24, help="of every class, style and length")
    parser.add_argument("--bank", help="file of rendered images, elsewhere than in OUT")
    parser.add_argument("--processes", type=int, help="that render; left out: one per core")
    parser.add_argument("--no-graphs", dest="graphs", action="store_false", help="start every kernel anew")
    parser.add_argument("--repeat", type=int, metavar="STEPS", help="train twice, compare the weights, stop")
    parser.add_argument("--tiny", action="store_true", help="few images, 30 steps of 32, to try the script")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.export is not None:
        ship(options.export)
        return 0
    if options.device == "cpu":
        options.graphs = False
    if options.tiny:
        options.per_domain, options.per_style, options.per_benchmark_style = 2, 1, 2
        options.captions, options.batch, options.steps = 2, 32, options.steps or 30
    if not options.steps and not options.limit:
        parser.error("give --steps or --limit")
    return train(options)


if __name__ == "__main__":
    sys.exit(main())
