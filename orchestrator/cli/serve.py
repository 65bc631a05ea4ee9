"""``orchestrator serve``: answers requests for predictions over HTTP."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated

import typer

LIBRARIES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
"""Modules that the extra ``serve`` installs, and the packages that hold them."""


def add_to(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    artefacts: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTEFACT…",
            help="Folders that [bold]orchestrator export[/] wrote, s3://… too; NAME=FOLDER gives a name.",
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, or bf16 as mixed precision.")] = "fp32",
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="CLIP", help="local-dir:DIR or a file of weights, if not where the artefact says."
        ),
    ] = None,
    token_from: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE", help="Environment variable with the token that clients have to send."
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Images of one forward.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="For how long a batch that is not full waits for more images.")
    ] = 5,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of one request.")] = 32 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = 50_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="Of one request.")] = 64,
    max_queue: Annotated[int, typer.Option(min=1, help="Images of all requests that wait.")] = 256,
    read_timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds within which headers, and then a body, have to arrive.")
    ] = 30,
    drain: Annotated[
        float, typer.Option(min=0.1, help="Seconds in which a stopping server finishes what it has begun.")
    ] = 25,
) -> int:
    """Serve exported classifiers over HTTP.

    Ctrl-C or SIGTERM ends it after the requests that have begun.
    """
    require_libraries()
    from mmap_model.errors import require
    from orchestrator.cli.console import err
    from orchestrator.serving.limits import RequestLimits
    from orchestrator.serving.paths import fetched_paths
    from orchestrator.serving.process import address, bind, is_loopback
    from orchestrator.serving.process import serve as run
    from orchestrator.serving.token import read_token

    limits = RequestLimits(
        bytes=max_bytes,
        buffered=max(RequestLimits.buffered, max_bytes),
        pixels=max_pixels,
        images=max_images,
        queue=max_queue,
        batch=max_batch,
        wait=max_wait_ms / 1000,
        read=read_timeout,
        drain=drain,
    )
    require(precision in ("fp32", "bf16"), "--precision", precision, "use fp32 or bf16")
    token = read_token(token_from, os.environ)
    with fetched_paths(artefacts) as paths:
        bound = bind(host, port)

        from orchestrator.serving.app import Service, make_app
        from orchestrator.serving.models import load_models

        models = load_models(
            paths,
            backbone=backbone,
            device=device,
            precision="bf16" if precision == "bf16" else "fp32",
        )
        service = Service(models, limits)
        local = is_loopback(bound)

        def started() -> None:
            names = ", ".join(model.name for model in models)
            err().print(f"Serving {names} at {address(bound)} (see {address(bound)}/docs)", soft_wrap=True)
            if token is None and not local:
                err().print(
                    "Whoever reaches this address may use it: --token-from VARIABLE asks for a token."
                )

        return run(make_app(service, token, local=local), bound, service.admission, started=started)


def require_libraries() -> None:
    """Raise ConfigurationError, with the command that installs them, if libraries are missing."""
    from mmap_model.errors import ConfigurationError

    missing = [package for module, package in LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"serve needs {', '.join(missing)}, not installed here",
            where="orchestrator serve",
            fix=f"run uv sync --extra serve, or pip install {' '.join(LIBRARIES.values())}",
        )
