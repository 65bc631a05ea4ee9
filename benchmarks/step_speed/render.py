"""The tables of README.md from results*.json, one of each kind of machine: python …/render.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def main() -> None:
    page = HERE / "README.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    found = [json.loads(file.read_text()) for file in sorted(HERE.glob("results*.json"))]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(map(tables, found)) + f"\n\n{END}{after}")


def tables(found: dict[str, Any]) -> str:
    """All that was measured, as Markdown."""
    about = list(found["about"].values())
    machine, commits = about[0]["machine"], {one["machine"]["commit"][:10] for one in about}
    loads = [one[f"load_average_{when}"][0] for one in about for when in ("before", "after")]
    core = f" ({machine['core']})" if machine.get("core") else ""
    parts = [
        f"**{machine['processor']}{core}**, {machine['threads']} threads, {machine['instructions']}, "
        f"torch {machine['torch']}, commit {', '.join(sorted(commits))}; load average {min(loads):.1f} to "
        f"{max(loads):.1f}, of which {machine['threads']} are the benchmark's own."
    ]
    if "train" in found:
        parts.append(_steps(found["train"]))
    if "newer" in found:
        parts.append(_newer(found["newer"]))
    if "parts" in found:
        parts.append(_parts(found["parts"]))
    parts += [_line(found, name, text) for name, text in LINES.items() if name in found]
    return "\n\n".join(parts)


def _steps(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| method | classes, batch | step, s | plain, s | times faster | memory added, GiB | plain, GiB "
        "| multiply-adds, 10⁹ | of `torch.mm` | of oneDNN's product |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, plain = row["ours"], row["reference"]
        chunked = "" if row["reference_text_chunk"] is None else f" ({row['reference_text_chunk']} at a time)"
        lines.append(
            f"| {row['method']} | {row['classes']}, {row['batch']} | {ours['median_s']:.2f} "
            f"| {plain['median_s']:.1f}{chunked} | **{row['times_faster']:.1f}** "
            f"| {ours['added_by_the_step_gib']:.2f} | {plain['added_by_the_step_gib']:.2f} "
            f"| {row['multiply_adds'] / 1e9:.0f} | {100 * row['share_of_matmul']:.0f} % "
            f"| {100 * row.get('share_of_matmul_by_onednn', float('nan')):.0f} % |"
        )
    return "\n".join(lines)


def _newer(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| method | tasks × images, classes | step, s | plain, s | times faster | memory added, GiB "
        "| plain, GiB | by sharing texts |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, plain, shared = row["ours"], row["reference"], row.get("by_sharing_texts")
        gained = "–" if shared is None else f"{shared:.2f} times"
        lines.append(
            f"| {row['method']} | {row['tasks']} × {row['batch']}, {row['classes']} | {ours['median_s']:.2f} "
            f"| {plain['median_s']:.1f} | **{row['times_faster']:.1f}** "
            f"| {ours['added_by_the_step_gib']:.2f} | {plain['added_by_the_step_gib']:.2f} | {gained} |"
        )
    return "\n".join(lines)


def _parts(rows: list[dict[str, Any]]) -> str:
    names = ("products", "attention", "activations", "copies", "rest")
    lines = ["Where the time of a step goes, by torch's profiler:", ""]
    lines += [f"| step | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    for row in rows:
        case = (
            "the demo's own" if row.get("embedded") else f"{row['method']} {row['classes']}, {row['batch']}"
        )
        lines.append(f"| {case} | {' | '.join(f'{row[name]:.0%}' for name in names)} |")
    return "\n".join(lines)


def _line(found: dict[str, Any], name: str, text: str) -> str:
    return "\n".join("- " + text.format(**row) for row in found[name])


LINES = {
    "fuse": "Four tasks × three replicates, 65 classes, batch {batch}, fused: "
    "{replicate_steps_per_second:.2f} replicate-steps per second, {times_faster:.2f} times one replicate "
    "after the other.",
    "embedded": "The demo's own step (the embedded benchmark's CLIP of widths 96 and 128, four tasks × three "
    "seeds, batch 16): {ours[median_s]:.2f} s, {times_faster:.1f} times the plain one's speed, "
    "{share_of_matmul:.0%} of `torch.mm`, {share_of_matmul_by_onednn:.0%} of oneDNN's product.",
    "evaluate": "Evaluation: {ours[images_per_second]:.1f} images per second, {of_open_clip:.2f} of "
    "open_clip's `encode_image`, {of_open_clip_keeping_memory:.2f} of it with an allocator that keeps freed "
    "memory.",
    "demo": "The demo's first trial (three cells fused): {older_training_s:.1f} s of training by commit "
    "{older_commit}, {now_training_s:.1f} s now, {times_faster_training:.2f} times faster; "
    "{times_faster_with_evaluation:.2f} with evaluation and start.",
}


if __name__ == "__main__":
    main()
