"""A model card: what the file is, how good it is by the records, and ten lines that run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from orchestrator.tables.document import Block, Bullets, Paragraph, Section, Span
from orchestrator.tables.formats import markdown
from orchestrator.tables.model import Table, label, number, row
from orchestrator.tables.words import accuracy

if TYPE_CHECKING:
    from mmap_model.inference.artefact import Artefact
    from orchestrator.exporting.measured import Measured

SHOWN = 40
"""Class names of a task that are written out."""

EXAMPLE = """from classify import Classifier  # beside this card; needs torch, numpy and pillow

classifier = Classifier("program")
print({{task: len(classes) for task, classes in classifier.tasks.items()}})
for answer in classifier.classify(["image.jpg"], task={task!r}, top=3):
    for label, probability in answer.items():
        print(f"{{probability:.3f}} {{label}}")
"""


def card(artefact: Artefact, numbers: Sequence[Measured], dataset: str) -> str:
    """``README.md`` of a folder on the hub.

    Args:
        artefact: description of the exported program.
        numbers: on validation and test images, as far as recorded.
        dataset: name of what it was trained on.
    """
    import yaml

    front = yaml.safe_dump(_front(artefact, numbers, dataset), sort_keys=False, allow_unicode=True)
    opening = markdown.write(Section(_title(artefact), tuple(_opening(artefact, numbers))))
    example = EXAMPLE.format(task=artefact.tasks[0].name)
    # Below the title: its sections are of the second level.
    rest = "\n".join(markdown.write(part).replace("# ", "## ", 1) for part in _rest(artefact, dataset))
    return f"---\n{front}---\n\n{opening}\n## Use\n\n```python\n{example}```\n\n{rest}"


def _front(artefact: Artefact, numbers: Sequence[Measured], dataset: str) -> dict[str, Any]:
    """What the hub reads: licence, tags, and numbers of this file and over the seeds, named apart."""
    is_open = "Apache-2.0" in (artefact.backbone.licence or "")
    licence = {"license": "apache-2.0"} if is_open else {"license": "other", "license_name": "see-the-card"}
    tags = ["image-classification", "clip", "prompt-tuning", "multi-task", artefact.method.name]
    results = [_result(found, artefact, dataset) for found in numbers]
    return {
        **licence,
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": list(dict.fromkeys(tags)),
        **({"model-index": [{"name": _title(artefact), "results": results}]} if results else {}),
    }


def _result(found: Measured, artefact: Artefact, dataset: str) -> dict[str, Any]:
    over, metrics = found.over_seeds, []
    if "accuracy" in found.metrics:
        name = f"Accuracy of this file (seed {artefact.source.seed})"
        metrics.append({"type": "accuracy", "name": name, "value": round(found.metrics["accuracy"], 6)})
    if over:
        name = f"Accuracy, mean over {over['n']} seeds"
        metrics.append({"type": "accuracy", "name": name, "value": round(float(over["mean"]), 6)})
    if over.get("std") is not None:
        name = f"Accuracy, standard deviation over {over['n']} seeds"
        metrics.append({"type": "accuracy", "name": name, "value": round(float(over["std"]), 6)})
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": dataset, "type": dataset, "split": found.part},
        "metrics": metrics,
    }


def _title(artefact: Artefact) -> str:
    study = artefact.source.study or "A study"
    return f"{study}: {artefact.method.name} on {clip_name(artefact)}"


def clip_name(artefact: Artefact) -> str:
    """Of the CLIP that was tuned; of one in a folder the last part of its path, as the rest is private."""
    name = artefact.backbone.model or "a CLIP without a name"
    return PurePath(name).name if name.startswith("local-dir:") else name


def _opening(artefact: Artefact, numbers: Sequence[Measured]) -> Iterator[Block]:
    tasks = len(artefact.tasks)
    yield Paragraph(
        f"Classifies images of {tasks} {'task' if tasks == 1 else 'tasks'} with a CLIP that was tuned by "
        f"the method {artefact.method.name}. Needs no text tower: class names are fixed."
    )
    if numbers:
        yield Section("Accuracy", tuple(_accuracy(artefact, numbers)))


def _accuracy(artefact: Artefact, numbers: Sequence[Measured]) -> Iterator[Block]:
    rows = []
    for found in numbers:
        over = found.over_seeds
        whole = f"{accuracy(over['mean'], over.get('std'))} (n = {over['n']})" if over else None
        rows.append(row(found.part, "all", accuracy(found.metrics.get("accuracy")), whole))
        rows += [row(found.part, task, accuracy(value), None) for task, value in found.tasks.items()]
    columns = (
        label("images"),
        label("task"),
        number(f"this file (seed {artefact.source.seed}), %"),
        number("mean ± std over seeds, %"),
    )
    yield Table(columns=columns, blocks=(tuple(rows),))
    yield Paragraph(
        "This file is one of the seeds; below stands why this one. If its validation images chose it, its "
        "own number on them is too high as an estimate: expect the mean over seeds."
    )
    if all(found.part != "test" for found in numbers):
        yield Paragraph("The study has not scored it on test images.")


def _rest(artefact: Artefact, dataset: str) -> Iterator[Section]:
    from mmap_model.inference.formats.readme import resized

    size = artefact.preprocessing.size
    yield Section(
        "Files",
        (
            Bullets(
                (
                    (Span("program", "code"), ": the classifier for torch.export, no other library needed."),
                    (Span("tensors", "code"), ": the same as safetensors; needs the CLIP and its software."),
                    (Span("config.json", "code"), ": class names by task and index."),
                    (Span("preprocessor_config.json", "code"), ": how images become pixels."),
                    (Span("artefact.json", "code"), ": where it comes from, and hashes of all files."),
                )
            ),
        ),
    )
    yield Section(
        "Images",
        (
            Paragraph(
                f"Turned upright as their EXIF says, RGB; {resized(artefact.preprocessing.resize, size)}; "
                "then normalised by channel."
            ),
        ),
    )
    yield Section("Classes", (Bullets(tuple(_classes(artefact))),))
    yield Section("Where it comes from", (Bullets(tuple(_origin(artefact, dataset))),))
    licence = artefact.backbone.licence or "Of the CLIP's weights nothing is known here."
    yield Section("Licence", (Paragraph(licence),))


def _classes(artefact: Artefact) -> Iterator[str]:
    for task in artefact.tasks:
        more = len(task.classes) - SHOWN
        names = ", ".join(task.classes[:SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield f"{task.name} ({len(task.classes)}): {names}"


def _origin(artefact: Artefact, dataset: str) -> Iterator[str]:
    source, versions = artefact.source, artefact.versions
    yield f"Study {source.study} on {dataset}: {source.reason}."
    yield f"Cell {', '.join(source.cells)}; {source.split}, seed {source.seed}, {source.precision}."
    clip = " ".join(filter(None, (clip_name(artefact), artefact.backbone.pretrained)))
    yield f"CLIP: {clip}, fingerprint {artefact.backbone.fingerprint}."
    known = (f"{name} {version}" for name, version in sorted(versions.items()) if version)
    yield f"Versions: {', '.join(known)}."
