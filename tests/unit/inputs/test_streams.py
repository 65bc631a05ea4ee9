"""Terminals and pipes of every encoding: each row is an environment, and what it must show."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.streams import HANDLER

ENVIRONMENTS = {
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp437": {"PYTHONIOENCODING": "cp437"},
    "koi8-r": {"PYTHONIOENCODING": "koi8-r:strict"},
    "posix": {"LC_ALL": "POSIX"},
    "posix_as_it_is": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_plan_is_shown_and_keeps_its_names_in_every_encoding(name: str, tree: Path, tmp_path: Path) -> None:
    (tree / "photo").rename(tree / "写真")
    (tree / "clipart").rename(tree / "café")
    study = tmp_path / "x.yaml"
    study.write_text(
        f"name: x\ndataset: {{name: folder, root: {tree}}}\nsplits: [{{shots: 1}}]\nspace: []\n"
        "settings: {prompt_length: 2, source_rows: 2, source_cols: 4}\ngrouping: {mode: single}\n"
    )
    plain, document = (_run(ENVIRONMENTS[name], "plan", str(study), *more) for more in ((), ("--json",)))
    encoding = ENVIRONMENTS[name].get("PYTHONIOENCODING", "ascii").partition(":")[0]
    assert "is valid; nothing has started" in plain.decode("utf-8" if name == "posix" else encoding)
    if name in ("ascii", "koi8-r", "posix_as_it_is"):
        assert rb"\u5199\u771f" in plain
    text = document.decode("utf-8" if name == "posix" else encoding)
    assert json.loads(text)["tasks"] == ["café", "写真"]


def test_every_sign_of_a_report_has_a_form_in_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", HANDLER)
    stream.write("84.4 ± 0.5 │ −2.9 ≈ · σ² ≥ 1 … 写 \udcff")
    stream.flush()
    written = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert written == rb"84.4 +/- 0.5 | -2.9 ~ - sigma^2 >= 1 ... \u5199 \xff"


def _run(environment: dict[str, str], *arguments: str) -> bytes:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LC_", "LANG", "COLUMNS"))}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        env={**kept, **environment, "COLUMNS": "300"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr.decode(errors="replace")
    return done.stdout
