"""What is sent to a cluster for one study: the driver's command, its files, its variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.job import Request
from cluster.jobs import STOP_WAIT
from cluster.secrets import VARIABLE, encrypt
from mmap_model.paths import expanded
from mmap_model.plain import content_key
from mmap_model.references import parse
from orchestrator.redaction import has_credentials, shown_uri
from orchestrator.study import Study, StudyError, packaged_studies

PACKAGES = ("orchestrator", "cluster", "search_spaces", "mmap_model")
"""Code that a job brings along, so that the cluster runs what was submitted."""

SECRETS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Variables that a job gets encrypted, if they are set here."""

PLAIN = ("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH")
"""Variables that a job gets as they are."""


def make_request(
    name_or_path: str,
    study: Study,
    overrides: Sequence[str],
    *,
    token: str | None,
    secrets: Sequence[str] = (),
    retry_failed: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Request:
    """The job of a study.

    Args:
        name_or_path: as the user gave it.
        study: what that and the overrides come to, its places checked.
        overrides: ``key=value``.
        token: of the cluster; None where it has none.
        secrets: names of further variables to encrypt.
        retry_failed: train failed cells again.
        environment: where variables are taken from.

    Raises:
        StudyError: credentials stand where everybody who may list jobs would read them, a variable is not
            set, or there is no token to encrypt with.
    """
    _check_open(study, overrides)
    told = () if study.notify is None else study.notify.to
    if unset := [name for name in told if not environment.get(name)]:
        raise StudyError(
            f"variable {unset[0]} is not set here",
            where="notify.to",
            fix="set it to an Apprise URL: the job gets it encrypted and sends its messages there",
        )
    missing = [name for name in secrets if not environment.get(name)]
    if missing:
        raise StudyError(
            f"variable {missing[0]} is not set here", where="--secret", fix="set it, or leave it out"
        )
    encrypted = {name: environment[name] for name in (*SECRETS, *told, *secrets) if environment.get(name)}
    plain = {name: environment[name] for name in PLAIN if environment.get(name)}
    uri = environment.get("MLFLOW_TRACKING_URI")
    if uri and study.tracking.uri is None:
        (encrypted if has_credentials(uri) else plain)["MLFLOW_TRACKING_URI"] = uri
    if encrypted and token is None:
        raise StudyError(
            f"{', '.join(encrypted)} cannot be sent to a cluster without a token: "
            "everybody could read it there",
            where="RAY_AUTH_MODE",
            fix="switch token authentication on, or set it on the head node and unset it here",
        )
    variables = {
        **plain,
        "RAY_JOB_STOP_SIGNAL": "SIGTERM",
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        **({VARIABLE: encrypt(encrypted, token)} if encrypted and token else {}),
    }
    shown = name_or_path if name_or_path in packaged_studies() else Path(name_or_path).name
    options = ["--retry-failed"] if retry_failed else []
    return Request(
        study=study.name,
        storage=study.storage,
        shown_storage=shown_uri(study.storage),
        settings=content_key(study.to_plain()),
        command=["python", "-m", "orchestrator", "sweep", *options, shown, *overrides],
        variables=variables,
    )


def needed_files(name_or_path: str, study: Study, include: Sequence[str] = ()) -> dict[str, Path]:
    """Files that the job needs beside this software, by their path in its folder.

    These are the study file, the files and modules of its own method, layout of images, search spaces,
    sampler, scheduler and tracker where they lie below the current folder, and what the user includes.
    """
    files: dict[str, Path] = {}
    if name_or_path not in packaged_studies():
        path = expanded(name_or_path)
        files[path.name] = path
    spaces = (item.name for item in study.space)
    others = (study.search.sampler, study.search.scheduler.name, study.tracking.backend or "")
    named = (study.method, study.dataset.name, *spaces, *others)
    for reference in map(parse, named):
        if reference is not None and reference.is_file:
            files[reference.location] = reference.path
        elif reference is not None:
            top = reference.location.partition(".")[0]
            files.update({str(p): p for p in (Path(top), Path(f"{top}.py")) if p.exists()})
    return files | {name: Path(name) for name in include}


def _check_open(study: Study, overrides: Sequence[str]) -> None:
    fix = "keep it out of the study: set variables here and send them with --secret NAME"
    for key, text in _texts(study.to_plain()):
        if has_credentials(text):
            raise StudyError(
                f"{shown_uri(text)} is given with credentials, which all users of the cluster could read",
                where=key,
                fix=fix,
            )
    for override in overrides:
        if has_credentials(override):
            raise StudyError("it holds credentials", where=f"override {override.partition('=')[0]}", fix=fix)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in the plain form of a study, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}.{number}".removeprefix("."))
