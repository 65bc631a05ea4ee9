"""Names in documents: whatever a task is called, tables, pages and figures show that name."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.reports.comparison.write import write_report
from orchestrator.tables.formats import latex, markdown

REPOSITORY = Path(__file__).parents[3]

TASKS = {
    "underscores": ("real_world", "R&D", "50%", "a\\b"),
    "signs": ("ünïcode", "#1 ~x^2", "{b}$c", "<i>|"),
    "dollars": ("$", "$a_{", "\\$x$", "a$$b"),
    "starts": ("[x]", "*y", "a--b", '"q" `r\''),
    "scripts": ("写真", "घोड़ा", "🐕 x²", "Straße – “q”"),
    "braces": ("{better}", "{0}", "{}", "}{"),
    "markup": ("**b**", "_i_", "[a](b)", "![x](y)"),
    "html": ("<script>", "&amp;", "</td>", "<!-- x"),
    "decomposed": ("cafe\u0301", "a\u0308", "n\u0303", "x\u0323"),
}


def comparison(tasks: tuple[str, ...], dataset: str = "a_b & c%") -> Any:
    """A made-up comparison of these tasks."""
    name = "_made_up_comparisons"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "orchestrator" / "conftest.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].make_comparison(tasks=tasks, dataset=dataset)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("signs", "braces") else pytest.mark.slow) for n in TASKS]
)
def test_a_report_is_written_whatever_tasks_are_called(name: str, tmp_path: Path) -> None:
    found = comparison(TASKS[name])
    written = {path.name: path for path in write_report(found, tmp_path)}
    assert any(path.suffix == ".png" for path in written.values())
    text = written["tables.tex"].read_text()
    assert all(latex.escape(task) in text for task in TASKS[name])
    page = written["README.md"].read_text()
    assert all(markdown.escape(task).replace("|", "\\|") in page for task in TASKS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_tables_of_any_tasks_compile(name: str, tmp_path: Path) -> None:
    write_report(comparison(TASKS[name]), tmp_path)
    compiled([tmp_path / "tables.tex"], tmp_path)


@pytest.mark.slow
def test_the_recorded_tables_compile(tmp_path: Path) -> None:
    tables = sorted((REPOSITORY / "benchmarks" / "paper_tables").rglob("*.tex"))
    assert tables
    compiled(tables, tmp_path)


def compiled(tables: list[Path], folder: Path) -> None:
    """Compile a document of these tables with a real LaTeX."""
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.fail(
            "neither pdflatex nor tectonic is installed: apt-get install --no-install-recommends "
            "texlive-latex-base texlive-latex-recommended"
        )
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in tables)
    document = folder / "document.tex"
    document.write_text(
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx}\n"
        f"\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    strict = ["-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape"]
    options = strict if compiler.endswith("pdflatex") else []
    done = subprocess.run(
        [compiler, *options, document.name], cwd=folder, capture_output=True, check=False, timeout=300
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-3000:]
    assert (folder / "document.pdf").stat().st_size > 1000
