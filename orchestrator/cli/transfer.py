"""``orchestrator transfer``: the winner on classes and tasks that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Overrides, Storage, StudyName

if TYPE_CHECKING:
    from orchestrator.tables import Table

HEADINGS = {
    "accuracy": "accuracy",
    "base": "base",
    "new": "new",
    "harmonic": "harmonic mean",
    "all": "all classes",
}


def add_to(app: typer.Typer) -> None:
    app.command("transfer", epilog="For example:  orchestrator transfer birds --to sketch")(transfer)


def transfer(
    study: StudyName,
    overrides: Overrides = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="TARGET",
            help="new (the classes that dataset.class_half=base left out), a task that the study left "
            "out, or another study or layout, with KEY=VALUE for it.",
        ),
    ] = "new",
    prompts: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="Of unseen tasks: mean (of the probabilities under every trained task's prompts), nearest "
            "(by plain image features; sees the unlabelled images), or a trained task.",
        ),
    ] = "mean",
    trial: Annotated[
        int | None, typer.Option(help="A complete trial, instead of the first of the ranking.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Label of the split, instead of the last.")] = None,
    device: Annotated[str, typer.Option(help="Device to compute on.")] = "cpu",
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Score the winner on new classes, unseen tasks or other data.

    Every seed of the trial that validation chose is scored; nothing is chosen on the target. The evaluation
    is recorded with the study.
    """
    from orchestrator.cli.console import err, out, print_json, show
    from orchestrator.cli.data_source import load_study_or_layout
    from orchestrator.exporting.choice import choose
    from orchestrator.exporting.transfer import Transfer, document, target_of
    from orchestrator.face.stored import find_stored
    from orchestrator.terminal import Activity

    stored = find_stored(study, storage)
    target = target_of(stored, to, lambda: load_study_or_layout(to, overrides or ())[0].dataset)
    chosen = choose(stored.store, stored.ledger, trial=trial, split=split, all_seeds=True)
    scoring = Transfer(stored, chosen, target, prompts, device)
    with Activity(err(), f"Scoring trial {chosen[0].trial} on {target.name}") as activity:
        found = document(scoring, scoring.scores(activity.at), trial=chosen[0].trial)
    found = {"study": stored.store.name, "split": chosen[0].split, **found}
    keys = [one.key for one in chosen]
    stored.store.record_test_evaluation(reason=f"by the transfer command, on {target.name}", keys=keys)
    stored.store.save_transfer(found)
    if as_json:
        print_json(found)
        return
    show(table(found))
    for line in sentences(found):
        out().print(line, markup=False)


def table(found: dict[str, Any]) -> Table:
    """Zero-shot CLIP and the tuned model by what was measured: means over tasks, spread over seeds."""
    from orchestrator.tables import Table, TableCell, label, number

    names = [name for name in HEADINGS if name in found["tuned"]]
    rows = []
    for row, key in (("zero-shot", "zero_shot"), (f"trial {found['trial']}", "tuned")):
        summaries = [found[key][name] for name in names]
        rows.append((TableCell(row), *(TableCell.accuracy(one["mean"], one["std"]) for one in summaries)))
    columns = (label(), *(number(HEADINGS[name]) for name in names))
    count = next(iter(found["tuned"].values()))["n"]
    title = (
        f"{found['study']} on {found['target']}: accuracy in %, mean ± standard deviation over {count} seeds"
    )
    return Table(title=title, columns=columns, blocks=(tuple(rows),))


def sentences(found: dict[str, Any]) -> list[str]:
    """What a reader has to know of the numbers."""
    first = next(iter(found["seeds"].values()))
    images = sum(one["images"] for one in first)
    lines = [f"Test images: {images} of {len(first)} tasks; nothing was chosen on them."]
    if found["kind"] == "base_to_new":
        lines.append(
            "Base and new are each scored among their own classes; the harmonic mean is of each seed."
        )
    else:
        used = sorted({", ".join(one["prompts"]) for own in found["seeds"].values() for one in own})
        lines.append(f"Prompts of: {'; '.join(used)}.")
    return lines
