"""How fast is a step, beside a plain prompted CLIP and beside the machine's own multiplications?

python benchmarks/step_speed/run.py [--device cuda --precision bf16] [--only train] [--repeats 5]

Needs torch, torchvision, open_clip and numpy, no more. Every comparison runs its sides in processes of their
own, in turns, and takes medians; the order changes from turn to turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GIB = 2**30
STEPS = [("mmap", 65, 16), ("mmap", 126, 4), ("mmap", 345, 4)]
STEPS += [("maple", classes, batch) for _, classes, batch in STEPS]
REFERENCE_BYTES = 40 * 10**6
"""That the reference keeps of one class: about 105 tokens in 12 layers."""
FUSED = {"method": "mmap", "classes": 65, "tasks": 4, "replicates": 3}


class Side:
    """A worker process; ``turn`` lets it do its work once.

    Args:
        spec: what it is told; ``threads`` among it.
        script: that it runs.
        root: the repository whose packages it imports.
    """

    def __init__(self, spec: dict[str, Any], script: str = "worker.py", root: Path = HERE.parents[1]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(spec["threads"]), "PYTHONPATH": str(root)}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / script), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.about = self._read()
        self.turns: list[dict[str, Any]] = []

    def turn(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.turns.append(self._read())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    @property
    def seconds(self) -> list[float]:
        """Of all turns but the first, which warms up."""
        return [turn["seconds"] for turn in self.turns[1:]]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def summary(self) -> dict[str, Any]:
        return {
            "median_s": round(self.median, 4),
            "seconds": [round(s, 4) for s in self.seconds],
            "peak_gib": round(max(t["peak"] for t in self.turns) / GIB, 3),
            "added_by_the_step_gib": round(max(t["added"] for t in self.turns) / GIB, 3),
            "first_value": self.turns[0]["value"],
        }

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended early, with {self._process.wait()}")
        return json.loads(line)  # type: ignore[no-any-return]


def interleave(sides: dict[str, Side], repeats: int) -> None:
    """One warm-up turn of each, then ``repeats`` rounds, forwards and backwards."""
    order = list(sides.values())
    for number in range(1 + repeats):
        for side in order if number % 2 == 0 else reversed(order):
            side.turn()
    for side in order:
        side.close()


def measure_steps(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours against the reference, and against the rate of a large product."""
    found = []
    for method, classes, batch in [STEPS[number] for number in options.steps or range(len(STEPS))]:
        chunk = text_chunk(classes, options)
        case = {**common, "method": method, "classes": classes, "batch": batch}
        sides = {
            "ours": _side(options, "train", case, reference=False, keep=True),
            "reference": _side(options, "train", {**case, "text_chunk": chunk}, reference=True, keep=False),
            **_rates(options, common),
        }
        interleave(sides, options.repeats)
        ours, reference = sides["ours"], sides["reference"]
        multiply_adds = sum(ours.about["text"].values()) + sum(ours.about["image"].values())
        row: dict[str, Any] = {
            "method": method,
            "classes": classes,
            "batch": batch,
            "reference_text_chunk": chunk,
            "times_faster": round(reference.median / ours.median, 2),
            "memory_of_reference": round(
                ours.summary()["added_by_the_step_gib"] / reference.summary()["added_by_the_step_gib"], 3
            ),
            "multiply_adds": multiply_adds,
            "text": ours.about["text"],
            "image": ours.about["image"],
            "loss_difference": abs(ours.turns[0]["value"] - reference.turns[0]["value"]),
            "ours": ours.summary(),
            "reference": reference.summary(),
        }
        for name in sides.keys() - {"ours", "reference"}:
            rate = 2 * sides[name].about["multiply_adds"] / sides[name].median
            row[f"{name}_gflops"] = round(rate / 1e9, 1)
            row[f"share_of_{name}"] = round(2 * multiply_adds / ours.median / rate, 3)
        found.append(row)
        print(json.dumps({k: v for k, v in row.items() if not isinstance(v, dict)}), flush=True)
    return found


def measure_newer(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Steps of newer methods: one task, four tasks that share their texts, and the plain way of both."""
    found = []
    for method in ("clip_lora", "promptsrc"):
        cases = {
            tasks: {**common, "method": method, "classes": 65, "batch": batch, "tasks": tasks}
            for tasks, batch in ((1, 16), (4, 4))
        }
        sides = {
            f"{name} {tasks}": _side(
                options, "train", case, reference=name == "reference", keep=name == "ours"
            )
            for tasks, case in cases.items()
            for name in ("ours", "reference")
        }
        alone = {**cases[4], "tasks": 1}
        sides["ours alone"] = _side(options, "train", alone, reference=False, keep=True)
        interleave(sides, options.repeats)
        for tasks, case in cases.items():
            ours, reference = sides[f"ours {tasks}"], sides[f"reference {tasks}"]
            row: dict[str, Any] = {
                **{name: case[name] for name in ("method", "classes", "batch", "tasks")},
                "times_faster": round(reference.median / ours.median, 2),
                "loss_difference": abs(ours.turns[0]["value"] - reference.turns[0]["value"]),
                "ours": ours.summary(),
                "reference": reference.summary(),
            }
            if tasks > 1:
                one = sides["ours alone"]
                row["by_sharing_texts"] = round(tasks * one.median / ours.median, 2)
                row["alone"] = one.summary()
            found.append(row)
            print(json.dumps({k: v for k, v in row.items() if not isinstance(v, dict)}), flush=True)
    return found


def text_chunk(classes: int, options: argparse.Namespace) -> int | None:
    """Classes that the reference encodes at a time, with checkpoints; None if memory holds them all."""
    if options.device == "cuda" or options.tiny:
        return None
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None if classes * REFERENCE_BYTES < 0.8 * available else -(-classes // 3)


def measure_fusing(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Four tasks and three replicates as one batch, and one replicate after the other."""
    found = []
    for batch in (4, 16) if options.device == "cuda" else (4,):
        case = {**common, **FUSED, "batch": batch}
        sides = {
            "fused": _side(options, "train", case, reference=False, keep=True),
            "one_by_one": _side(options, "one_by_one", case, keep=True),
            **_rates(options, common),
        }
        interleave(sides, options.repeats)
        fused = sides["fused"]
        multiply_adds = sum(fused.about["text"].values()) + sum(fused.about["image"].values())
        row: dict[str, Any] = {
            **{k: case[k] for k in ("method", "classes", "batch", "tasks", "replicates")},
            "times_faster": round(sides["one_by_one"].median / fused.median, 3),
            "replicate_steps_per_second": round(case["replicates"] / fused.median, 3),
            "fused": fused.summary(),
            "one_by_one": sides["one_by_one"].summary(),
        }
        for name in sides.keys() - {"fused", "one_by_one"}:
            rate = 2 * sides[name].about["multiply_adds"] / sides[name].median
            row[f"share_of_{name}"] = round(2 * multiply_adds / fused.median / rate, 3)
        found.append(row)
        print(json.dumps({k: v for k, v in row.items() if not isinstance(v, dict)}), flush=True)
    return found


def measure_embedded(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """The demo's own step: three seeds and four tasks as one batch of the embedded benchmark's CLIP."""
    case = {**common, **FUSED, "batch": 16, "embedded": True}
    sides = {
        "ours": _side(options, "train", case, reference=False, keep=True),
        "reference": _side(options, "train", case, reference=True, keep=False),
        **_rates(options, common),
    }
    interleave(sides, options.repeats)
    ours, reference = sides["ours"], sides["reference"]
    multiply_adds = sum(ours.about["text"].values()) + sum(ours.about["image"].values())
    row: dict[str, Any] = {
        "times_faster": round(reference.median / ours.median, 2),
        "multiply_adds": multiply_adds,
        "loss_difference": abs(ours.turns[0]["value"] - reference.turns[0]["value"]),
        "ours": ours.summary(),
        "reference": reference.summary(),
    }
    for name in sides.keys() - {"ours", "reference"}:
        rate = 2 * sides[name].about["multiply_adds"] / sides[name].median
        row[f"share_of_{name}"] = round(2 * multiply_adds / ours.median / rate, 3)
    print(json.dumps({k: v for k, v in row.items() if not isinstance(v, dict)}), flush=True)
    return [row]


def measure_parts(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the time of a step goes."""
    found = []
    wanted = [{"method": method, "classes": classes, "batch": batch} for method, classes, batch in STEPS]
    for case in [*wanted, {**FUSED, "batch": 16, "embedded": True}]:
        side = _side(options, "parts", {**common, **case}, keep=True)
        side.close()
        found.append({**case, **side.about["parts"]})
        print(json.dumps(found[-1]), flush=True)
    return found


def measure_evaluation(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Images per second to class scores, and of open_clip's encoder."""
    case = {**common, **FUSED, "batch": 64 if options.device == "cuda" else 4}
    sides = {
        "ours": _side(options, "evaluate", case, reference=False, keep=True),
        "open_clip": _side(options, "evaluate", case, reference=True, keep=False),
        "open_clip_keeping_memory": _side(options, "evaluate", case, reference=True, keep=True),
    }
    interleave(sides, options.repeats)
    row: dict[str, Any] = {"images": sides["ours"].about["images"]}
    for name, side in sides.items():
        row[name] = {**side.summary(), "images_per_second": round(side.about["images"] / side.median, 2)}
    for name in ("open_clip", "open_clip_keeping_memory"):
        row[f"of_{name}"] = round(sides[name].median / sides["ours"].median, 3)
    print(json.dumps({k: v for k, v in row.items() if not isinstance(v, dict)}), flush=True)
    return [row]


def measure_trial(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds of a trial of Office-Home's size on a GPU; on the CPU only with ``--tiny``."""
    if options.device == "cpu" and not options.tiny:
        return [{"seconds": None, "why": "hours on a CPU; run with --device cuda"}]
    from cases import VIT_B_16

    spec = {"what": "office_home", "threads": options.threads, "shape": VIT_B_16, **common}
    side = Side(spec, "trials.py")
    interleave({"trial": side}, max(1, options.repeats // 2))
    return [side.summary()]


def measure_demo(options: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of the demo's first trial, by an older commit and by this one."""
    spec = {"what": "demo", "threads": options.threads, "device": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        older = Path(folder) / "older"
        subprocess.run(["git", "worktree", "add", "--detach", older, options.older], cwd=HERE, check=True)
        try:
            sides = {"now": Side(spec, "trials.py"), "older": Side(spec, "trials.py", older)}
            interleave(sides, options.repeats)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", older], cwd=HERE, check=True)
    row: dict[str, Any] = {"older_commit": options.older}
    for name, side in sides.items():
        row[f"{name}_training_s"] = round(
            statistics.median(turn["training_seconds"] for turn in side.turns[1:]), 3
        )
        row[name] = side.summary()
    row["times_faster_training"] = round(row["older_training_s"] / row["now_training_s"], 2)
    row["times_faster_with_evaluation"] = round(sides["older"].median / sides["now"].median, 2)
    print(json.dumps({k: v for k, v in row.items() if not isinstance(v, dict)}), flush=True)
    return [row]


MEASURES = {
    "train": measure_steps,
    "newer": measure_newer,
    "fuse": measure_fusing,
    "embedded": measure_embedded,
    "parts": measure_parts,
    "evaluate": measure_evaluation,
    "trial": measure_trial,
    "demo": measure_demo,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=MEASURES, action="append")
    parser.add_argument("--steps", type=int, action="append", help=f"numbers of {STEPS}, counted from 0")
    parser.add_argument(
        "--tiny", action="store_true", help="a CLIP of three narrow layers, to try the script"
    )
    parser.add_argument(
        "--older", default="9c3c2ec", help="commit that the demo's cells are trained with too"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    common = {"device": options.device, "precision": options.precision, "tiny": options.tiny}
    result: dict[str, Any] = {
        "question": "how fast is a step beside a plain prompted CLIP and beside a large product"
    }
    if options.out is not None and options.out.exists():
        result = json.loads(options.out.read_text())  # other parts stay as they were measured
    for name in options.only or MEASURES:
        about = {
            "command": " ".join(["python", "benchmarks/step_speed/run.py", *sys.argv[1:]]),
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": _machine(options),
            "load_average_before": os.getloadavg(),
        }
        found = MEASURES[name](options, common)
        some = name == "train" and options.steps is not None
        result[name] = _with_others(found, result.get(name, [])) if some else found
        key = " ".join([name, *map(str, options.steps)]) if some else name
        result.setdefault("about", {})[key] = {**about, "load_average_after": os.getloadavg()}
        if options.out is not None:
            options.out.write_text(json.dumps(result, indent=2) + "\n")


def _with_others(found: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``STEPS`` in their order; those that were not measured now as they were."""
    rows = {(row["method"], row["classes"], row["batch"]): row for row in [*before, *found]}
    return [rows[step] for step in STEPS if step in rows]


def _side(options: argparse.Namespace, kind: str, case: dict[str, Any], **more: Any) -> Side:
    return Side({"kind": kind, "case": case, "threads": options.threads, **more})


def _rates(options: argparse.Namespace, common: dict[str, Any]) -> dict[str, Side]:
    """The large product as torch multiplies; on the CPU also by oneDNN, which ours goes through."""
    case = {**common, "method": "mmap", "classes": 2, "batch": 1}
    sides = {"matmul": _side(options, "matmul", case, onednn=False, keep=False)}
    if options.device == "cpu":
        sides["matmul_by_onednn"] = _side(options, "matmul", case, onednn=True, keep=False)
    return sides


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    about = dict[str, str]()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            about.setdefault(name.strip(), value.strip())
    core = [
        f"{word} {about[name]}"
        for word, name in (("family", "cpu family"), ("model", "model"))
        if name in about
    ]
    return {
        "processor": about.get("model name") or platform.processor() or platform.machine(),
        "core": ", ".join(core) or None,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": options.threads,
        "accelerator": torch.cuda.get_device_name() if options.device == "cuda" else None,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "open_clip_torch")},
        "commit": _commit(),
    }


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None


if __name__ == "__main__":
    main()
