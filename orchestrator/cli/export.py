"""``orchestrator export``: a trained configuration of a study as files that others use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import AsJson, Prefer, Storage, StudyName
from orchestrator.redaction import shown_uri

if TYPE_CHECKING:
    from mmap_model.inference.artefact import Artefact
    from orchestrator.exporting.checking import ExportCheck
    from orchestrator.exporting.choice import Chosen
    from orchestrator.exporting.registering import Registered, Registry
    from orchestrator.exporting.winner import Winner
    from orchestrator.face.stored import Stored


def add_to(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    study: StudyName,
    form: Annotated[
        str,
        typer.Option("--format", help="prompts, classifier, torch-export, onnx, open_clip, mlflow or hf."),
    ],
    out: Annotated[str, typer.Option(help="Folder to make, here or as s3://…")],
    trial: Annotated[
        int | None, typer.Option(min=0, help="A complete trial, instead of the first of the ranking.")
    ] = None,
    prefer: Prefer = None,
    split: Annotated[str | None, typer.Option(help="Label of the split, instead of the last.")] = None,
    seed: Annotated[
        str | None, typer.Option(help="Label of the seed, instead of the best on the validation images.")
    ] = None,
    all_seeds: Annotated[
        bool, typer.Option("--all-seeds", help="An artefact for each seed, in folders seed-N; no ensemble.")
    ] = False,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Score the validation images again through the files, in another process, and exit 1 unless "
            "that is what was recorded. What was exported before is only checked.",
        ),
    ] = False,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --format mlflow: make a version of this model in the registry of the study's MLflow. "
            "Includes --check, and happens only if it holds.",
        ),
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="With --register: let this name the new version, e.g. champion.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device to compute on.")] = "cpu",
    storage: Storage = None,
    as_json: AsJson = False,
) -> int:
    """Write the winner of a study as a classifier.

    The winner is chosen by validation images, never by test images.
    """
    from orchestrator.cli.console import DONE, FAILED, err, print_json
    from orchestrator.exporting.checking import check as score
    from orchestrator.exporting.choice import choose
    from orchestrator.exporting.publishing import below, publish, working_folder
    from orchestrator.exporting.winner import Winner
    from orchestrator.face.stored import find_stored, name_and_storage
    from orchestrator.submission import check_path, in_ray_job
    from orchestrator.terminal import Activity

    if in_ray_job():
        check_path(
            "--storage", name_and_storage(study, storage)[1], "give its path: --storage /shared/studies"
        )
        check_path("--out", out, "give a path that outlives the job: --out s3://bucket/winner")
    stored = find_stored(study, storage)
    chosen = choose(
        stored.store,
        stored.ledger,
        trial=trial,
        prefer=prefer,
        split=split,
        seed=seed,
        all_seeds=all_seeds,
    )
    registry = _registry(stored, chosen, form, register, alias)
    check = check or registry is not None
    documents, holds = [], True
    for one in chosen:
        winner = Winner(stored, one, task, device)
        place = below(out, f"seed-{one.seed.replace('/', '.')}") if all_seeds else out
        about = f"Exporting trial {one.trial}, seed {one.seed}"
        with working_folder(place, again=check) as folder, Activity(err(), about) as activity:
            activity.at("writing the artefact")
            artefact, is_new = _written(winner, folder, form, check)
            activity.at("scoring recorded images through it")
            found = score(winner, folder) if check else None
            holds = holds and (found is None or found.holds)
            activity.at("publishing it")
            if is_new and (found is None or found.holds):
                publish(folder, place)
            version = None
            if registry is not None and artefact is not None and found is not None and found.holds:
                version = registry.register(winner, folder, artefact)
        document = _document(one, artefact, place, found)
        if registry is not None:
            document["registered"] = None if version is None else version.to_dict()
        documents.append(document)
        if not as_json:
            _tell(one, artefact, place, found, is_new)
            _tell_registered(version, asked=registry is not None)
    if as_json:
        print_json(documents)
    return DONE if holds else FAILED


def _registry(
    stored: Stored, chosen: Sequence[Chosen], form: str, name: str | None, alias: str | None
) -> Registry | None:
    """Where to register, which is looked at before anything is computed."""
    from mmap_model.errors import InputError

    if name is None:
        if alias is not None:
            raise InputError("it names a registered version", where="--alias", fix="add --register NAME")
        return None
    if form != "mlflow":
        raise InputError(
            f"the registry is MLflow's, which does not serve {form}",
            where="--register",
            fix="add --format mlflow",
        )
    if alias is not None and len(chosen) > 1:
        raise InputError(
            f"it names one version, and {len(chosen)} seeds are exported",
            where="--alias",
            fix="leave out --alias or --all-seeds",
        )
    from orchestrator.exporting.registering import Registry

    registry = Registry(stored, name, alias)
    for trial in {one.trial for one in chosen}:
        registry.run_of(trial)
    return registry


def _written(winner: Winner, folder: Path, form: str, check: bool) -> tuple[Artefact | None, bool]:
    """The artefact, and whether it was made now. One that is to be checked may be damaged: then None."""
    from mmap_model.errors import CheckpointError
    from mmap_model.inference.artefact import DESCRIPTION, Artefact
    from orchestrator.exporting.writing import write

    if not check or not (folder / DESCRIPTION).exists():
        return write(winner, folder, form), True
    try:
        found = Artefact.describe(folder)
    except CheckpointError:
        return None, False
    if (found.kind, found.source.cells) != (form, (winner.chosen.key,)):
        raise CheckpointError(
            f"it holds another export: {found.kind} of {', '.join(found.source.cells) or 'an unknown cell'}",
            where=str(folder),
            fix="give a folder that does not exist, or remove it",
        )
    return found, False


def _document(
    chosen: Chosen, artefact: Artefact | None, folder: str, check: ExportCheck | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "folder": shown_uri(folder),
        "kind": None if artefact is None else artefact.kind,
        "trial": chosen.trial,
        "cell": chosen.key,
        "split": chosen.split,
        "seed": chosen.seed,
        "reason": chosen.reason,
        "validation": chosen.validation,
        "mean": chosen.over_seeds,
        "files": {} if artefact is None else {name: e.bytes for name, e in artefact.files.items()},
    }
    if check is not None:
        found["check"] = {
            "holds": check.holds,
            "against": check.against,
            "agreement": None if check.agreement is None else check.agreement.to_dict(),
            "recorded": None if check.recorded is None else check.recorded.to_dict(),
            "refused": check.refused,
        }
    return found


def _tell(
    chosen: Chosen, artefact: Artefact | None, folder: str, check: ExportCheck | None, is_new: bool
) -> None:
    from orchestrator.cli.console import err, out
    from orchestrator.tables.words import accuracy

    console = out()
    if artefact is not None:
        size = sum(entry.bytes for entry in artefact.files.values())
        said = "Exported" if is_new else "Exported before"
        console.print(
            f"{said}: {shown_uri(folder)} ({artefact.kind}, {_size(size)}, {len(artefact.tasks)} tasks) "
            f"from {chosen.reason}",
            markup=False,
            soft_wrap=True,
        )
        if chosen.validation is not None and chosen.over_seeds is not None:
            mean, number = accuracy(chosen.over_seeds["mean"]), chosen.over_seeds["n"]
            console.print(
                f"This seed has {accuracy(chosen.validation)} % on its validation images. "
                f"Expect the mean over {number} seeds: {mean} %.",
                markup=False,
                soft_wrap=True,
            )
        for note in artefact.notes:
            console.print(note, markup=False, soft_wrap=True)
    if check is not None:
        (console if check.holds else err()).print(check.in_words(), markup=False, soft_wrap=True)
    elif artefact is not None:
        console.print("Not checked; --check scores the validation images through it.", markup=False)


def _tell_registered(version: Registered | None, *, asked: bool) -> None:
    from orchestrator.cli.console import err, out

    if version is not None:
        made = "Registered" if version.is_new else "Registered before"
        said = f"{made}: {version.name} version {version.version} of run {version.run}; load {version.uri}"
        out().print(said, markup=False, soft_wrap=True)
    elif asked:
        err().print("Not registered.", markup=False)


def _size(bytes_: int) -> str:
    return f"{bytes_ / 2**20:.1f} MiB" if bytes_ >= 2**20 else f"{bytes_ / 2**10:.0f} KiB"
