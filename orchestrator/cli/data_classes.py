"""``orchestrator data classes``: class names as they appear in prompts, and how to change them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Overrides


def add_to(app: typer.Typer) -> None:
    app.command("classes")(classes)


def classes(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A study, its file, or a layout of images.")
    ],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the classes of every task with their prompts."""
    from mmap_model.architecture import read_architecture
    from mmap_model.class_texts import check_class_texts, check_template, class_text
    from mmap_model.data import open_dataset
    from mmap_model.methods import get_method
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.data_source import load_study_or_layout

    study, _ = load_study_or_layout(source, overrides or ())
    dataset = open_dataset(study.dataset)
    texts = get_method(study.method).texts(study.settings, study.recipe.template)
    check_template(texts)
    architecture = read_architecture(study.backbone.model)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for task in dataset.tasks:
        for key, name in zip(dataset.class_keys(task.name), task.classes, strict=True):
            prompt = class_text(texts.template, name)
            row = rows.setdefault((key, name), {"class": key, "name": name, "prompt": prompt, "tasks": []})
            row["tasks"].append(task.name)
    if as_json:
        print_json({"template": study.recipe.template, "classes": list(rows.values())})
        check_class_texts(texts, [row["name"] for row in rows.values()], architecture)
        return
    console = out()
    every = len(dataset.tasks)
    for row in rows.values():
        some = "" if len(row["tasks"]) == every else f"  [{', '.join(row['tasks'])}]"
        console.print(f"{row['class']}: {row['prompt']}{some}", markup=False)
    console.print(
        "Other words: 'dataset.class_names={mug: coffee mug}'; another template: "
        "'recipe.template=a picture of a {}.'",
        style="dim",
        markup=False,
    )
    check_class_texts(texts, [row["name"] for row in rows.values()], architecture)
