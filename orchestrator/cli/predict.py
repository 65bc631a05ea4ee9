"""``orchestrator predict``: classify images with an exported classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.predicting.output import Output
    from orchestrator.predicting.parts import Parts
    from orchestrator.predicting.run import PredictionRun

PART = 1024
"""Images that are committed together."""

BATCH = 64


def add_to(app: typer.Typer) -> None:
    app.command(
        "predict",
        epilog="For example:  orchestrator predict winner/ photos/ --task photo --out labels.parquet",
    )(predict)


def predict(
    artefact: Annotated[str, typer.Argument(metavar="ARTEFACT", help="Folder that export wrote, or s3://….")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES…",
            help="Files, folders, patterns, Parquet tables, s3://…; - reads names from standard input.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(help="Whose classes to choose from; [bold]auto[/] chooses the task by the image."),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Other classes of the task, one a line.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels of each image, at most.")] = 5,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="…parquet, …csv or …jsonl, here or on s3://…. Else: text."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of tables that holds the images.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = BATCH,
    part: Annotated[
        int, typer.Option(min=1, help="Images committed together; a killed run repeats so many at most.")
    ] = PART,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 as mixed precision.")] = "fp32",
    backbone: Annotated[
        str | None, typer.Option(help="The CLIP that was tuned, if not where the artefact says: local-dir:….")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Over the Ray of $RAY_ADDRESS; without one, of this machine's own.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Over the Ray at this address; implies --ray.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray's workers that label; one per GPU or core if not given.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start over, whatever --out holds.")] = False,
) -> int:
    """Label images with an exported classifier.

    With --out a run that was stopped resumes, and an image that cannot be read has a row that says so.

    Exit code 0: every image has a label; 1: some could not be read, and their rows say why.
    """
    import sys

    from mmap_model.inference.artefact import Artefact
    from orchestrator.predicting.arguments import Arguments
    from orchestrator.predicting.cluster import Cluster
    from orchestrator.predicting.fetching import fetched
    from orchestrator.predicting.labelling import Question
    from orchestrator.predicting.listing import Listing
    from orchestrator.predicting.loading import LoadingOptions
    from orchestrator.predicting.output import Output
    from orchestrator.predicting.run import PredictionRun
    from orchestrator.submission import check_path, in_ray_job

    if out is not None and in_ray_job():
        check_path("--out", out, "give a path that outlives the job: --out s3://bucket/labels.parquet")
    options = LoadingOptions(batch=batch, part=part, device=device, precision=precision, backbone=backbone)
    output = None if out is None else Output(out)
    with fetched(artefact) as folder:
        description = Artefact.describe(folder)
        question = Question.of(description, task, None if classes is None else _names(classes), top)
        arguments = Arguments(images, column, sys.stdin.buffer if "-" in images else None)
        with Listing(arguments.entries()) as listing:
            _say_left_out(arguments.left_out)
            cluster = Cluster(address, workers) if ray or address is not None else None
            run = PredictionRun(folder, description, question, listing, options, cluster)
            return _print(run) if output is None else _write(run, output, restart=restart)


def _write(run: PredictionRun, output: Output, *, restart: bool) -> int:
    """Make the file, or what is missing of it."""
    from orchestrator.predicting.parts import Parts

    output.check()
    with Parts(output, run.identity) as parts:
        return _fill(run, parts, output, restart=restart)


def _fill(run: PredictionRun, parts: Parts, output: Output, *, restart: bool) -> int:
    from orchestrator.cli.console import DONE, FAILED, err
    from orchestrator.cli.data_prepare import bar
    from orchestrator.tables.words import integer

    count = run.listing.count
    if not restart and parts.finished():
        parts.clean()
        err().print(f"{output.shown} is complete already; --restart starts over", markup=False)
        return DONE if not parts.errors() else FAILED
    done = parts.begin(restart=restart)
    if done:
        err().print(
            f"Resuming: {integer(parts.images(done))} of {integer(count)} images are done", markup=False
        )
    with bar(f"Labelling {integer(count)} images", count, unit="images") as advance:
        advance(parts.images(done))
        parts.commit(run.tables(done, _warn), advance)
    tally = parts.join(run.origin)
    broken = f"{integer(tally.errors)} could not be read, see column error; " if tally.errors else ""
    err().print(f"{integer(tally.rows)} images, {broken}{output.shown}", markup=False, soft_wrap=True)
    return FAILED if tally.errors else DONE


def _print(run: PredictionRun) -> int:
    """Rows as text on standard output, as they come."""
    from rich.text import Text

    from orchestrator.cli.console import DONE, FAILED, out
    from orchestrator.cli.data_prepare import bar

    console, errors = out(), 0
    tables = run.tables((), _warn)
    labels = max(len(name) for names in run.classes for name in names)
    tasks = max(map(len, run.tasks))
    with bar(f"Labelling {run.listing.count} images", run.listing.count, unit="images") as advance:
        for table in tables:
            for row in table.to_pylist():
                errors += row["error"] is not None
                console.print(Text(_line(row, labels, tasks)), soft_wrap=True)
            advance(len(table))
    return FAILED if errors else DONE


def _line(row: dict[str, Any], labels: int, tasks: int) -> str:
    """Label, probability, where the task was chosen by the image that too, and the image."""
    if row["error"] is not None:
        return f"{'error':<{labels}}          {row['error']}"
    chosen = ""
    if row.get("task_confidence") is not None:
        chosen = f"{row['task']:<{tasks}}  {row['task_confidence']:6.1%}  "
    return f"{row['label']:<{labels}}  {row['probability']:6.1%}  {chosen}{row['image']}"


def _names(path: Path) -> list[str]:
    """Class names of a file, one a line."""
    from mmap_model.errors import ConfigurationError
    from mmap_model.text_files import read_text

    lines = read_text(path, "--classes", ConfigurationError).split("\n")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ConfigurationError(f"{path} names no class", where="--classes", fix="write one name a line")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"{path} names {twice[0]!r} twice", where="--classes", fix="name each class once"
        )
    return names


def _say_left_out(notes: Sequence[str]) -> None:
    from orchestrator.predicting.arguments import SHOWN

    for note in notes[:SHOWN]:
        _warn(f"Left out: {note}")
    if len(notes) > SHOWN:
        _warn(f"Left out as well: files in {len(notes) - SHOWN} further folders")


def _warn(text: str) -> None:
    from rich.text import Text

    from orchestrator.cli.console import err

    err().print(Text(text, "yellow"), soft_wrap=True)
