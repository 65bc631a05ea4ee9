"""Predicts seconds of steps and of a trial on a GPU before anything is measured; measurements stand beside.

    python benchmarks/gpu/cost.py                # the table in README.md, from launches.json and results/
    python benchmarks/gpu/cost.py --take FOLDER  # the stages of a run become results/<card>.json first

A step takes as long as the device works, or as long as the host needs to start its kernels, whichever is
longer; replayed as a graph it takes the device's time. The device's time is a sum:

- *products*: multiply-adds of ``benchmarks/step_speed/count.py`` at a share of the card's published rate;
- *attention*: its multiply-adds at the share of it that flash attention with heads of 64 is given here;
- *memory*: what kernels between the products read and write, at a share of the published bandwidth.

Bytes for each token, number of its width and layer under autocast, where the residual stream and LayerNorm
are fp32 and everything else bf16. Forwards: two LayerNorms (4 read, 4 written), two casts of them (4, 2),
keys and values beside the prompts' (4, 4), two residual sums (6, 4), SiLU of four times the width (8, 8).
Backwards: four casts (4, 2 or 2, 4), two LayerNorms (8, 4), two sums (8, 4), gradients of keys and values
and of the whole projection put together (4, 4 and 6, 6), SiLU (16, 8).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "step_speed"), str(HERE.parents[1])]

from count import Passes, image_passes, text_passes  # noqa: E402

from mmap_model.architecture import Architecture, parse_architecture  # noqa: E402
from mmap_model.towers import Tower  # noqa: E402

FORWARD_BYTES, BACKWARD_BYTES = 72, 116
PRODUCTS, ATTENTION, MEMORY = 0.70, 0.35, 0.80
"""Shares of the published rates. Assumptions, as is what follows: the first measurement will replace them."""
LAUNCH_S = 8e-6
"""Seconds of the host for an operator, its part in autograd included."""
PROMPTS, COMMON, REST, SHOTS, VALIDATION, EPOCHS, SEEDS, TASKS = 28, 4, 4, 6, 4, 5, 3, 4
CLASSES, PER_CLASS, BATCH, SCORED = 65, 64, 16, 256
START, END = "<!-- predicted -->", "<!-- /predicted -->"


@dataclass(frozen=True)
class Card:
    """Published rates of a card: dense bf16 multiplications with additions, bytes of its memory a second."""

    name: str
    flops: float
    bandwidth: float


CARDS = (Card("H100", 989e12, 3.35e12), Card("H200", 989e12, 4.8e12))
"""SXM parts by NVIDIA's data sheets: 989 teraflops in bf16 without sparsity; 3.35 and 4.8 TB/s."""


@dataclass(frozen=True)
class Work:
    """What one step or evaluation asks for.

    Attributes:
        passes: multiply-adds, by tower.
        numbers: tokens times width times layers, by tower.
        backward: whether there is a backward pass.
        launches: kernels.
    """

    passes: tuple[Passes, ...]
    numbers: float
    backward: bool
    launches: float

    def device_seconds(self, card: Card) -> dict[str, float]:
        linear = sum(p.linear + p.linear_backward * self.backward for p in self.passes)
        attention = sum(p.attention + p.attention_backward * self.backward for p in self.passes)
        moved = self.numbers * (FORWARD_BYTES + BACKWARD_BYTES * self.backward)
        return {
            "products": 2 * linear / (PRODUCTS * card.flops),
            "attention": 2 * attention / (ATTENTION * card.flops),
            "memory": moved / (MEMORY * card.bandwidth),
        }

    def seconds(self, card: Card, *, replayed: bool = False) -> float:
        device = sum(self.device_seconds(card).values())
        return device if replayed else max(device, self.launches * LAUNCH_S)


def vit_b_16() -> Architecture:
    vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
    config = {"embed_dim": 512, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return parse_architecture("ViT-B/16", config)


def step(classes: int, batch: int, *, sets: int = 1) -> Work:
    """MmAP's step with b = 14; a class has ``REST`` tokens after the common words, end of text included."""
    shape, counted = vit_b_16(), launches("step")
    text = text_passes(shape, common=COMMON, rest=[REST] * classes, prompts=PROMPTS, sets=sets)
    image = image_passes(shape, images=batch, prompts=PROMPTS, sets=sets)
    numbers = sets * (
        numbers_of(shape.text, COMMON + REST * classes) + numbers_of(shape.image, batch * (1 + shape.patches))
    )
    return Work((text, image), numbers, True, counted)


def scoring(images: int) -> Work:
    """The image tower of a batch without gradients."""
    shape = vit_b_16()
    image = image_passes(shape, images=images, prompts=PROMPTS)
    return Work((image,), numbers_of(shape.image, images * (1 + shape.patches)), False, launches("scoring"))


def numbers_of(tower: Tower, tokens: int) -> float:
    return float(tokens * tower.width * tower.layers)


def launches(name: str) -> float:
    """Of twelve layers."""
    found = json.loads((HERE / "launches.json").read_text())[name]
    return float(12 * found["per_layer"] + found["besides"])


def trial(card: Card) -> float:
    """Training, validation after each epoch and the test images, half of all, of three fused seeds."""
    steps = EPOCHS * (SHOTS * CLASSES // BATCH)
    test = SEEDS * TASKS * CLASSES * PER_CLASS // 2
    validated = EPOCHS * SEEDS * TASKS * CLASSES * VALIDATION
    fused = step(CLASSES, BATCH, sets=SEEDS * TASKS)
    return steps * fused.seconds(card) + (test + validated) / SCORED * scoring(SCORED).seconds(card)


def measured(card: Card, read: Callable[[dict[str, Any]], float]) -> str:
    """What ``results/<card>.json`` has; without the file nothing was measured."""
    path = HERE / "results" / f"{card.name}.json"
    if not path.exists():
        return "not measured"
    try:
        return seconds_shown(read(json.loads(path.read_text())))
    except (KeyError, IndexError, TypeError):
        return "not measured"


def take(folder: Path) -> Path:
    """Put the stages of one run on a card of the list into one file, in place of what it has of them.

    What an earlier run brought of other stages stays; one that came to its end is not replaced by one that
    did not.
    """
    stages = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    names = {card.name for card in CARDS for stage in stages.values() if card.name in stage.get("card", "")}
    if len(names) != 1:
        sys.exit(f"{folder}: stages of one card are expected, among {[card.name for card in CARDS]}")
    path = HERE / "results" / f"{names.pop()}.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    for name, stage in stages.items():
        if known.get(name, {}).get("complete") and not stage.get("complete"):
            print(f"{name}: not finished in {folder}; the finished one of {path.name} stays")
            continue
        known[name] = stage
    path.write_text(json.dumps(known, indent=1) + "\n")
    return path


def seconds_shown(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def rows() -> list[list[str]]:
    found = []
    shapes = {(65, 16): 0, (126, 4): 1, (345, 4): 2}
    for card in CARDS:
        for (classes, batch), number in shapes.items():
            one = step(classes, batch)
            seen = [
                measured(card, lambda r, n=number, w=way: r["step"]["steps"][n][w])  # type: ignore[misc]
                for way in ("ours_s", "replayed_s")
            ]
            what = f"step, {classes} classes, {batch} images, one task"
            found.append(row(card, what, one, [*seen, ""]))
        fused = step(CLASSES, BATCH, sets=SEEDS * TASKS)
        seen = [
            measured(card, lambda r, m=mode: r["step"]["modes"][m]["step_s"])  # type: ignore[misc]
            for mode in ("off", "graphs", "on")
        ]
        found.append(row(card, "step, 65 classes, 16 images, four tasks × three seeds fused", fused, seen))
        whole = [measured(card, lambda r, m=mode: r["trial"][m]["seconds"]) for mode in ("off", "graphs")]  # type: ignore[misc]
        what = "trial of Office-Home's size, warm"
        found.append([card.name, what, *[""] * 5, seconds_shown(trial(card)), *whole, ""])
    return found


def row(card: Card, what: str, work: Work, seen: list[str]) -> list[str]:
    parts = [seconds_shown(seconds) for seconds in work.device_seconds(card).values()]
    host = f"{work.launches:.0f} launches, {seconds_shown(work.launches * LAUNCH_S)}"
    graph = seconds_shown(work.seconds(card, replayed=True))
    return [card.name, what, *parts, host, graph, seconds_shown(work.seconds(card)), *seen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--take", type=Path, help="folder of a run's stages")
    options = parser.parse_args()
    if options.take is not None:
        take(options.take)
    head = ["card", "what", "products", "attention", "memory", "host", "as a graph", "predicted"]
    head += ["measured", "replayed", "compiled"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows())]
    page = HERE / "README.md"
    before, _, rest = page.read_text().partition(START)
    page.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
