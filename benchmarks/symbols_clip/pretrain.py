"""Train the small CLIP of `symbols` from scratch by contrasting rendered glyphs with captions.

    nice -n 5 python benchmarks/symbols_clip/pretrain.py --out DIR

Command, hardware and measured result of the shipped weights: README.md. Images see patch dropout, and in
many steps the towers see random-direction tokens that stand where deep prompts will stand and are discarded
after each layer. The first quarter of the schedule eases in: small batches, mostly style-free captions,
little filler and noise. The schedule runs over `--steps` or, as for the shipped weights, over `--minutes`
of wall clock (then the number of steps depends on the machine). `DIR/checkpoint.pt` is rewritten every
minute; `--export DIR` ships one.
"""

import argparse
import json
import math
import multiprocessing
import time
from pathlib import Path

import bank as image_bank
import numpy as np
import scores
import torch
from captions import _tokenizer, caption, vocabulary
from open_clip import CLIP
from steps import loss_of, parameter_groups
from torch import Tensor, distributed
from torch.nn.attention import SDPBackend, sdpa_kernel
from towers import build, encode_images, encode_texts, export

from mmap_model.symbols.glyphs import GLYPHS
from mmap_model.symbols.renderer import DOMAINS
from mmap_model.symbols.weights import CLIP_DIR, benchmark_sha256, weights_sha256

MAX_LENGTHS, LENGTH_SHARES = (14, 18, 24, 32), (0.4, 0.3, 0.2, 0.1)
BENCHMARK_SHARE, DOMAIN_SHARE = 0.35, 0.65
KEPT_PATCHES = 32
LAYERS = 4
INSERTED_COUNTS = (4, 8)
EASE, EARLY_STYLE_FREE, FILLER = 0.25, 0.7, 0.7


def ease(progress: float) -> float:
    """0 at the start of the schedule, 1 from the end of its easing-in."""
    return min(1.0, progress / EASE)


class Batches:
    """Batches of pairs of images of one class in two styles, so that style is worth knowing."""

    def __init__(
        self, bank: image_bank.Bank, size: int, style_free: float, photo_free: float, seed: int
    ) -> None:
        self.bank, self.size = bank, size
        self.style_free, self.photo_free = style_free, photo_free
        self.rng = np.random.default_rng(seed)
        names = tuple(glyph.name for glyph in GLYPHS)
        self.vocabulary = vocabulary(names)
        self.lookup = {token: row for row, token in enumerate(self.vocabulary)}
        benchmark = np.array([glyph.benchmark for glyph in GLYPHS])
        self.class_shares = np.where(
            benchmark, BENCHMARK_SHARE / benchmark.sum(), (1 - BENCHMARK_SHARE) / (~benchmark).sum()
        )

    def draw(self, progress: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """pixels [B, 3, 32, 32], ids [B, L], ends [B], pairs that are no negatives [B, B]."""
        rng = self.rng
        eased = ease(progress)
        size = self.size if eased == 1 else self.size // 2
        style_free = EARLY_STYLE_FREE + (self.style_free - EARLY_STYLE_FREE) * eased
        classes = np.repeat(rng.choice(len(GLYPHS), size // 2, replace=True, p=self.class_shares), 2)
        room = int(rng.choice(MAX_LENGTHS, p=LENGTH_SHARES)) - 2
        rows, texts, styles, named = [], [], [], []
        for position, class_index in enumerate(classes):
            spans = self.bank.rows[class_index]
            style = self._style(list(spans), styles[-1] if position % 2 else None)
            first, count = spans[style]
            rows.append(first + int(rng.integers(count)))
            name = GLYPHS[class_index].name
            ids, said = caption(rng, name, style, style_free, self.photo_free, FILLER * eased, room)
            texts.append(ids[:room])
            styles.append(style)
            named.append(said)
        same_class = classes[:, None] == classes[None]
        codes = {style: code for code, style in enumerate(sorted(set(styles)))}
        image_style = np.array([codes[style] for style in styles])
        text_style = np.array([-1 if said is None else codes[said] for said in named])
        fits = same_class & ((text_style[None] == -1) | (text_style[None] == image_style[:, None]))
        np.fill_diagonal(fits, False)
        pixels = scores.normalised(torch.from_numpy(self.bank.images[rows]))
        return pixels, *self._padded(texts, room + 2), torch.from_numpy(fits)

    def _style(self, styles: list[str], other: str | None) -> str:
        inside = [style for style in styles if style in DOMAINS and style != other]
        outside = [style for style in styles if style not in DOMAINS and style != other]
        pool = inside if inside and self.rng.random() < DOMAIN_SHARE else outside
        return pool[self.rng.integers(len(pool))]

    def _padded(self, texts: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
        start, end = self.lookup[_tokenizer().sot_token_id], self.lookup[_tokenizer().eot_token_id]
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens) + 2] = torch.tensor(
                [start, *(self.lookup[token] for token in tokens), end]
            )
        return ids, torch.tensor([len(tokens) + 1 for tokens in texts])


def inserted_noise(rng: np.random.Generator, share: float, size: int, width: int) -> list[Tensor] | None:
    """Random tokens, LAYERS×[N, D] or [B, N, D], of random size; None in 1 - share of the steps."""
    count = int(rng.choice(INSERTED_COUNTS))
    if rng.random() >= share:
        return None
    scale = 10 ** float(rng.uniform(-3.5, 0))
    shape = (count, width) if rng.random() < 0.7 else (size, count, width)
    return [torch.randn(shape) * scale for _ in range(LAYERS)]


def optimiser_for(model: CLIP, lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameter_groups(model), lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)


def report(model: CLIP, lookup: dict[int, int], test: scores.Data) -> dict[str, object]:
    """Scores on a quarter of the test images: zero-shot, own words, one insertion of 8 tokens."""
    texts, images = scores.kronecker_prompts(0, 1.0)
    test = {domain: (pixels[::4], labels[::4]) for domain, (pixels, labels) in test.items()}
    model.eval()
    features = scores.image_features(model, test)
    prompted = scores.image_features(model, test, images)
    record: dict[str, object] = {
        "zero_shot": scores.accuracies(model, lookup, test, features),
        "own_words": scores.accuracies(model, lookup, test, features, scores.OWN_WORDS),
        "inserted_text": scores.accuracies(model, lookup, test, features, inserted=texts)["mean"],
        "inserted_image": scores.accuracies(model, lookup, test, prompted)["mean"],
        "scale": model.logit_scale.exp().item(),
    }
    model.train()
    return record


def train(args: argparse.Namespace) -> None:
    """Render the bank, then run `--processes` single-threaded processes that average their gradients.

    Threads inside one process wait for each other at every operation, which a shared machine makes slow.
    """
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "rendezvous").unlink(missing_ok=True)
    started = time.monotonic()
    bank = image_bank.build(args.per_domain, args.per_style, args.per_benchmark_style, out / "bank.npy")
    print(f"bank of {len(bank.images)} images in {time.monotonic() - started:.0f} s", flush=True)
    context = multiprocessing.get_context("fork")
    others = [
        context.Process(target=run, args=(args, bank, rank), daemon=True) for rank in range(1, args.processes)
    ]
    for process in others:
        process.start()
    run(args, bank, 0)
    for process in others:
        process.join()


def run(args: argparse.Namespace, bank: image_bank.Bank, rank: int) -> None:
    """One process's share of the training; rank 0 saves and reports."""
    torch.set_num_threads(1)
    out = Path(args.out)
    distributed.init_process_group(
        "gloo", init_method=f"file://{out.resolve()}/rendezvous", rank=rank, world_size=args.processes
    )
    torch.manual_seed(args.seed)
    share = args.batch // args.processes
    batches = Batches(bank, share, args.style_free, args.photo_free, args.seed * 100 + rank)
    model = build(len(batches.vocabulary)).train()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(14))
    optimiser = optimiser_for(model, args.lr)
    parameters = list(model.parameters())
    test = scores.load()[1] if rank == 0 else {}
    torch.manual_seed(args.seed * 100 + rank)
    rng = np.random.default_rng((args.seed, 2))
    started = last_saved = last_report = time.monotonic()
    step, losses, seconds_before, first = 0, [], 0.0, 0
    if args.resume:
        saved = torch.load(out / "checkpoint.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        if "optimiser" in saved:
            optimiser.load_state_dict(saved["optimiser"])
        step, seconds_before = saved["step"], saved["seconds"]
        first = 0 if "optimiser" in saved else step
        batches.rng = np.random.default_rng((args.seed, 1, rank, step))
        rng = np.random.default_rng((args.seed, 2, step))
    last = False
    while not last:
        progress = (
            step / args.steps
            if args.steps
            else (seconds_before + time.monotonic() - started) / (60 * args.minutes)
        )
        rate = torch.tensor(min(1.0, progress))
        distributed.broadcast(rate, 0)
        progress = rate.item()
        warm = min(1, (step - first + 1) / 200)
        for group in optimiser.param_groups:
            group["lr"] = (
                args.lr * group["factor"] * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
            )
        pixels, ids, ends, fits = batches.draw(progress)
        keep = None if progress > 0.95 or rng.random() < 0.05 else KEPT_PATCHES
        image_noise = inserted_noise(rng, 0.4 * ease(progress), len(pixels), 128)
        text_noise = inserted_noise(rng, 0.75 * ease(progress), len(ids), 96)
        # The CPU flash kernel is three times slower backwards than plain matmuls at these lengths.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            images = encode_images(model, pixels, image_noise, keep)
            texts = encode_texts(model, ids, ends, text_noise)
        loss = loss_of(images, texts, fits, model.logit_scale.exp())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, args.processes)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        step += 1
        last = step == args.steps or (args.steps is None and progress >= 1)
        if rank > 0:
            continue
        now = time.monotonic()
        seconds = round(seconds_before + now - started)
        if step % 100 == 0:
            print(
                f"step {step} loss {np.mean(losses[-100:]):.3f}",
                f"scale {model.logit_scale.exp().item():.1f} {seconds} s",
                flush=True,
            )
        if now - last_saved > 60 or last:
            last_saved = now
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            torch.save({**state, "seconds": seconds, "vocabulary": batches.vocabulary}, out / "new.pt")
            (out / "new.pt").replace(out / "checkpoint.pt")
        if now - last_report > args.report_seconds or last:
            record = {"step": step, "seconds": seconds, **report(model, batches.lookup, test)}
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(json.dumps(record), flush=True)
            last_report = time.monotonic()
    distributed.destroy_process_group()


def average_gradients(parameters: list[Tensor], processes: int) -> None:
    """Replace every gradient by its mean over processes, in one exchange."""
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    distributed.all_reduce(flat)
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, mean in zip(parameters, (flat / processes).split(sizes), strict=True):
        parameter.grad.copy_(mean.view_as(parameter))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="/tmp/symbols_clip")
    parser.add_argument(
        "--export", metavar="DIR", help="write the shipped file from DIR/checkpoint.pt and stop"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from OUT/checkpoint.pt on the same schedule"
    )
    parser.add_argument("--minutes", type=float, default=49)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--style-free", type=float, default=0.2)
    parser.add_argument("--photo-free", type=float, default=0.15)
    parser.add_argument("--per-domain", type=int, default=60, help="images per class")
    parser.add_argument("--per-style", type=int, default=8)
    parser.add_argument("--per-benchmark-style", type=int, default=60)
    parser.add_argument("--report-seconds", type=float, default=240)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.export is None:
        train(args)
        return
    freeze(Path(args.export))


def freeze(run: Path) -> None:
    """Ship the run's checkpoint and write the hashes of weights and benchmark images to frozen.json."""
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    print(export(saved["model"], saved["vocabulary"], CLIP_DIR), "step", saved["step"])
    path = CLIP_DIR.parent / "frozen.json"
    record = {
        **json.loads(path.read_text(encoding="utf-8")),
        "benchmark_sha256": benchmark_sha256(),
        "weights_sha256": weights_sha256(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
