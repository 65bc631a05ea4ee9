"""``orchestrator data draws``: the lists of images that a study trains, validates and tests with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, Overrides, StudyName

if TYPE_CHECKING:
    from orchestrator.study import Study

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the lists.")]


def add_to(app: typer.Typer) -> None:
    draws = typer.Typer(help="Export or import the lists of images that a study draws.", no_args_is_help=True)
    draws.command("export", epilog="For example:  orchestrator data draws export office_home lists")(export)
    draws.command(
        "import", epilog="For example:  orchestrator data draws import office_home split/office-home lists"
    )(import_)
    app.add_typer(draws, name="draws")


def export(study: StudyName, folder: Folder, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Write the lists of a study: FOLDER/<task>/<part>_<split>_seed<seed>.txt, lines <image> <label>."""
    from orchestrator.cli.data_source import load_study_or_layout

    _write(load_study_or_layout(study, overrides or ())[0], folder, as_json)


def import_(
    study: StudyName,
    lists: Annotated[Path, typer.Argument(metavar="LISTS", help="Lists from elsewhere, VMTL's for example.")],
    folder: Folder,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check lists from elsewhere against the images of a study, and write them as its own.

    Paths in them may be of another machine: the last three components count. What they leave open (a
    validation part, a test part) is filled in as the study's protocol says. Under protocol search, lists by
    which one seed or split tests on what another trains or validates with are refused.
    """
    from orchestrator.cli.data_source import load_study_or_layout
    from orchestrator.notation import written

    given = [*(overrides or ()), f"dataset.lists={written(str(lists))}"]
    _write(load_study_or_layout(study, given)[0], folder, as_json)


def _write(study: Study, folder: Path, as_json: bool) -> None:
    from mmap_model.data import open_dataset
    from mmap_model.data.lists import PARTS, write_lists
    from orchestrator.cli.console import out, print_json
    from orchestrator.notation import written
    from orchestrator.study.draws import check_fixed_lists, study_draws

    dataset = open_dataset(study.dataset)
    check_fixed_lists(study, dataset)
    found = []
    # All are drawn before the first is written: lists that do not fit leave nothing behind.
    for split, seed, tasks in list(study_draws(study, dataset)):
        for task, drawn in tasks.items():
            write_lists(folder, dataset, task, drawn, split, seed)
            sizes = {part: len(getattr(drawn, part)) for part in PARTS}
            found.append({"task": task, "split": split.label, "seed": seed, **sizes})
    if as_json:
        print_json({"folder": str(folder), "lists": found})
        return
    console = out()
    for row in found:
        images = ", ".join(f"{row[part]} {part}" for part in PARTS)
        console.print(f"{row['task']}  {row['split']}, seed {row['seed']}: {images}", markup=False)
    use = shlex.quote(f"dataset.lists={written(str(folder))}")
    console.print(f"Use them with:  {use}", markup=False, soft_wrap=True)
