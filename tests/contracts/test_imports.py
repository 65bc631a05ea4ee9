"""The floors of the packages: which imports the contracts in pyproject.toml refuse, lazy ones included."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from mmap_model.methods import get_method, method_names

ROOT = Path(__file__).parents[2]
PACKAGES = ("mmap_model", "search_spaces", "orchestrator", "cluster")

MODULE_OF_ITS_PACKAGE = {
    frozenset({f"mmap_model.methods.{name}", f"mmap_model.methods.{name}.module"})
    for name in (
        *("clap", "clip_adapter", "clip_lora", "coop", "joint", "maple", "mlp", "mmap", "promptsrc"),
        *("task_res", "two_stage", "vpt"),
    )
}
"""A method's package holds its settings and count, without torch, and imports the torch part to build."""

FORBIDDEN = {
    "no loops between the modules and packages of the science": (
        "mmap_model/forward/tokens.py",
        "mmap_model.forward.text",
    ),
    "mmap_model: values, data, backbone, forward, methods, cells, training": (
        "mmap_model/configuration.py",
        "mmap_model.cells",
    ),
    "data: values, sources, stores, opening, datasets by name": (
        "mmap_model/data/prepared/store.py",
        "mmap_model.data.sourced",
    ),
    "sources: interface, files, selection, sources by name, each layout": (
        "mmap_model/data/sources/base.py",
        "mmap_model.data.sources.registry",
    ),
    "methods: interface, shared models, each method, methods by name": (
        "mmap_model/methods/base.py",
        "mmap_model.methods.registry",
    ),
    "search_spaces: errors, suggesters, the space, what it is made of": (
        "search_spaces/suggesters.py",
        "search_spaces.space",
    ),
}
"""By contract: a module, and what it must not import."""


@pytest.mark.parametrize("package", ["mmap_model", "search_spaces"])
def test_no_module_imports_itself_on_any_way_but_that_from_a_method_to_its_torch_part(package: str) -> None:
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert set(_loops(imported)) == {
        pair for pair in MODULE_OF_ITS_PACKAGE if all(name.startswith(package) for name in pair)
    }


def test_only_a_space_that_is_a_methods_own_names_a_single_method() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    named: dict[str, set[str]] = {}
    for method in method_names():
        package = type(get_method(method)).__module__
        for module in {package, *graph.find_descendants(package)}:
            named.setdefault(method, set()).update(graph.find_modules_that_directly_import(module))
    outside = {
        (importer, method)
        for method, importers in named.items()
        for importer in importers
        if not importer.startswith("mmap_model.methods")
    }
    assert outside == {("search_spaces.mmap_shape", "mmap")}


def test_each_contract_refuses_an_import_from_a_higher_floor(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=lambda folder, names: _without_code(folder, names)
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, module in FORBIDDEN.values():
        with (tmp_path / path).open("a") as file:
            file.write(f"\n\ndef _lazily() -> None:\n    import {module}\n")
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, check=False)
    broken = set(re.findall(r"^(.+) BROKEN$", done.stdout, re.MULTILINE))
    assert done.returncode == 1 and set(FORBIDDEN) <= broken, done.stdout


def _without_code(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if not name.endswith(".py") and not Path(folder, name).is_dir()}


def _loops(imported: dict[str, set[str]]) -> list[frozenset[str]]:
    """The sets of modules that each reach themselves through all others of the set."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = imported[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    reach = {module: reached(module) for module in imported}
    return list(
        {
            frozenset(other for other in reach[module] if module in reach[other])
            for module in imported
            if module in reach[module]
        }
    )
