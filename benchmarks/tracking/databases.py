"""Where MLflow's server keeps its runs: a SQLite file, and a PostgreSQL of its own for the while."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATABASE = "mlflow"


def free_port() -> int:
    """A port of this machine's loopback that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def sqlite() -> Iterator[str]:
    """URI of a file that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="tracking-") as folder:
        yield f"sqlite:///{folder}/mlflow.db"


@contextmanager
def postgresql() -> Iterator[str]:
    """URI of a database in a PostgreSQL that is started for it, as Debian's package sets it up.

    PostgreSQL does not run as root: there it runs as the user ``postgres``.
    """
    folder = Path(tempfile.mkdtemp(prefix="tracking-"))
    data, port = folder / "data", free_port()
    user = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid}

    def run(program: str, *arguments: str) -> None:
        command = [_program(program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **user)  # type: ignore[call-overload]

    try:
        run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", DATABASE)
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/{DATABASE}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


DATABASES = {"sqlite": sqlite, "postgresql": postgresql}


def missing(name: str) -> str | None:
    """What a database lacks here, in words; None if it can be used."""
    if name == "postgresql" and _found("initdb") is None:
        return "there is no PostgreSQL here: apt-get install postgresql"
    return None


def _program(name: str) -> str:
    found = _found(name)
    if found is None:
        raise FileNotFoundError(f"{name}: apt-get install postgresql")
    return found


def _found(name: str) -> str | None:
    """Debian keeps the programs of the server out of the path."""
    if (found := shutil.which(name)) is not None:
        return found
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else None
