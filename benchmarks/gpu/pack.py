"""Packs what a bare GPU machine lacks into one archive, and unpacks it there.

    python benchmarks/gpu/pack.py benchmarks/gpu/image.txt carried.tar.xz   # here: resolves, fetches, prunes
    python benchmarks/gpu/pack.py --unpack carried.tar.xz /tmp/site         # there; needs Python alone
    PYTHONPATH=/tmp/site python benchmarks/gpu/run.py

The machine has a Python and a torch of its own, and no network. What it has is listed by name in a file, one
package a line; everything else that the project depends on is fetched as wheels for its Python and platform,
whatever runs here, and packed without the parts that no sweep needs. Exit code 1 if archive and tracked files
together are more than may travel.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = ("torch==2.11.0", "torchvision==0.26.0")
"""What the machine's own packages are; the project's requirements of them do not count."""
WITHOUT = (
    "mlflow",  # mlflow-skinny, which mlflow needs, has all of its code except the pages of its server
    "distlib",
    "docker",
    "flask",
    "flask-cors",
    "graphene",
    "graphql-core",
    "graphql-relay",
    "gunicorn",
    "huey",
    "python-discovery",
    "skops",
    "virtualenv",
)
"""What no sweep imports: servers of MLflow, and environments that Ray makes for jobs."""
LIMIT = 64 * 2**20
"""Bytes that may travel, tracked files included."""
PRUNED = (
    *("ray/jars", "ray/rllib", "ray/cpp", "ray/llm", "ray/dashboard/client", "ray/_private/arrow_utils"),
    *("mlflow/server/js", "bin", "sqlalchemy/testing"),
)
"""Folders and files that no sweep needs; C++, Java and reinforcement learning among them."""
DROPPED = (".cdx.json", ".pyi", ".pxd", ".pyx", ".c", ".h", ".cpp", ".pyc", ".whl")
"""Endings of files that nothing reads at run time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unpack", action="store_true")
    parser.add_argument("--python-version", default="3.12")
    parser.add_argument("--platform", default="x86_64-manylinux_2_28")
    parser.add_argument("source", type=Path, help="list of packages; with --unpack the archive")
    parser.add_argument("target", type=Path, help="archive; with --unpack the folder")
    options = parser.parse_args()
    if options.unpack:
        with tarfile.open(options.source) as archive:
            archive.extractall(options.target, filter="data")
        return 0
    present = {line.strip() for line in options.source.read_text().splitlines() if line[:1] not in ("#", "")}
    tags = ["--python-version", options.python_version, "--python-platform", options.platform]
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        fetch(resolve(tags), present, tags, site)
        prune(site)
        with tarfile.open(options.target, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive:
            archive.add(site, ".")
    return report(options.target)


def resolve(tags: list[str]) -> list[str]:
    """All that the project needs there, pinned: ``name==version``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    own = {requirement.partition("==")[0] for requirement in OWN}
    wanted = [r for r in project["project"]["dependencies"] if name_of(r) not in own]
    cutoff = project["tool"]["uv"]["exclude-newer"]
    command = ["uv", "pip", "compile", "-", *tags, "--exclude-newer", cutoff, "--no-annotate", "--no-header"]
    done = subprocess.run(
        [*command, "--quiet"], input="\n".join([*wanted, *OWN]), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return [line for line in done.stdout.splitlines() if "==" in line]


def fetch(pinned: list[str], present: set[str], tags: list[str], site: Path) -> None:
    """Install what is not present into a folder, from wheels alone."""
    missing = [r for r in pinned if name_of(r) not in present | set(WITHOUT)]
    print(f"carried: {len(missing)} of {len(pinned)} packages")
    # Copies: what is linked to uv's cache is every environment's too, and would be stripped under its feet.
    command = ["uv", "pip", "install", "--quiet", "--link-mode=copy", "--target", str(site), *tags]
    subprocess.run([*command, "--no-deps", "--only-binary", ":all:", *missing], check=True)


def name_of(requirement: str) -> str:
    """The normalised name of the package."""
    name = requirement
    for mark in "[<>=!~; ":
        name = name.partition(mark)[0]
    return name.lower().replace("_", "-")


def prune(site: Path) -> None:
    for place in PRUNED:
        path = site / place
        if path.is_dir():
            shutil.rmtree(path)
    for path in list(site.rglob("*")):
        if path.name.endswith(DROPPED) and path.is_file():
            path.unlink()
        elif path.is_dir() and path.name in ("tests", "__pycache__") and path.exists():
            shutil.rmtree(path)
    strip(site)


def strip(site: Path) -> None:
    """Take from compiled code what only a debugger reads, where a tool for it is at hand: a third of all."""
    if shutil.which("strip") is None:
        print("strip (binutils) is missing: the archive keeps what debuggers read")
        return
    compiled = [path for path in site.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
    subprocess.run(["strip", "--strip-unneeded", *map(str, compiled)], check=True)


def report(archive: Path) -> int:
    """Say what travels; 1 if it is too much."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True)
    tracked = sum((ROOT / name).lstat().st_size for name in listed.stdout.split("\0") if name)
    packed = archive.stat().st_size
    total = tracked + packed
    print(f"archive {packed:,} bytes, tracked files {tracked:,}, together {total:,} of {LIMIT:,}")
    return int(total > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
