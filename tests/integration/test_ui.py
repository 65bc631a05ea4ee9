"""``orchestrator ui`` in a real browser: MLflow and optuna-dashboard on a study that was told."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.ledger import Ledger, StudyStore
from orchestrator.pages.optuna_page import optuna_page
from orchestrator.work.events import EpochReached, WorkEvent

if TYPE_CHECKING:
    from told_study import ToldStudy

REPORT = """<!doctype html><title>report</title><h1>What was found</h1>
<script>document.body.append(`drawn by ${"a script"}`)</script>"""

DRAWN = """lengths => {
  const plot = document.getElementById("graph-intermediate-values");
  const drawn = plot && plot.data ? plot.data.map(line => line.x.length).sort() : [];
  return JSON.stringify(drawn) === JSON.stringify(lengths) && plot.querySelectorAll(".lines path").length > 0;
}"""
"""Whether the intermediate values of trials are drawn, one line of so many points for each."""

PATIENCE_MS = 120_000.0


def write_report(store: StudyStore, ledger: Ledger, path: Path) -> None:
    path.write_text(REPORT)


@pytest.fixture(scope="module")
def told(
    importable: None, empty: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ToldStudy, str]]:
    """A study of three trials, one of them pruned, and the database that it was told to."""
    import shutil

    import stand_in
    from told_study import ToldStudy

    from orchestrator.tracking import study_tracker
    from orchestrator.tracking.mlflow.writer import MlflowWriter

    folder = tmp_path_factory.mktemp("told")
    (folder / "epoch_s").write_text("0")
    shutil.copy(empty, folder / "mlflow.db")

    def prune(study: ToldStudy, event: WorkEvent) -> None:
        if isinstance(event, EpochReached) and (event.item_id, event.epoch) == ("trial-1", 2):
            study.trials.stop_early("trial-1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stand_in, "FOLDER", folder)
        patch.setattr(study_tracker, "BackendProcess", MlflowWriter)
        uri = f"sqlite:///{folder}/mlflow.db"
        study = ToldStudy(folder / "runs", uri, after=prune, report=write_report)
        study.search(3)
        study.finish()
        assert study.close().note is None
        yield study, str(folder / "runs")


@pytest.fixture(scope="module")
def address(told: tuple[ToldStudy, str]) -> Iterator[str]:
    """What ``orchestrator ui`` prints; ended with Ctrl-C."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "orchestrator", "ui", "told", "--storage", told[1], "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line.rpartition(" ")[2].strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


def names(page: Any) -> list[str]:
    """Runs in the order shown, down to the heads of their names."""
    found = page.locator(".ag-row a").all_inner_texts()
    return [re.split(r" ·|-[0-9a-f]{8}", text)[0] for text in found]


def test_the_page_opens_on_the_study_s_trials_by_accuracy_under_model_training(
    told: tuple[ToldStudy, str], address: str, open_page: Callable[..., Any]
) -> None:
    page = open_page(address, width=2800).page  # the table makes no columns that are out of sight
    page.set_default_timeout(PATIENCE_MS)
    page.get_by_text("trial 0").first.wait_for()
    trials = sorted(told[0].store.load_trials(), key=lambda trial: -trial.epochs[-1]["mean"])
    ranked = [f"trial {trial.number}" for trial in trials]
    shown = names(page)
    assert set(shown) == {*ranked, "zero-shot", "zero-step", "study told"}, "cells are left out"
    assert [name for name in shown if name in ranked] == ranked
    assert page.get_by_text("Registered prompts").count() == 0 and page.get_by_text("Playground").count() == 0
    for column in ("val_accuracy_mean", "parameters", "recipe.lr", "state"):
        assert page.locator(".ag-header-cell", has_text=column).count() == 1, column
    assert page.locator(".ag-row", has_text="pruned").count() == 1

    page.locator(".ag-header-cell", has_text="val_accuracy_mean").click()
    page.wait_for_url("**orderByAsc=true**")
    page.wait_for_function(
        "first => document.querySelector('.ag-row[row-index=\"0\"] a').innerText.startsWith(first)",
        arg=least_accurate(told[0]),
    )


def least_accurate(study: ToldStudy) -> str:
    """Of all rows of the study."""
    means = {f"trial {trial.number}": trial.epochs[-1]["mean"] for trial in study.store.load_trials()}
    for name, row in study.store.load_baselines().items():
        means[name.replace("_", "-")] = row["epochs"][-1]["mean"]
    return min(means, key=lambda name: means[name])


def test_the_run_of_the_study_shows_its_report_its_ranking_and_its_dataset(
    address: str, open_page: Callable[..., Any]
) -> None:
    page = open_page(address).page
    page.set_default_timeout(PATIENCE_MS)
    page.get_by_role("link", name="study told").click()
    page.get_by_text("symbols (").first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("report.html").first.click()
    frame = page.frame_locator("iframe").first
    frame.get_by_role("heading", name="What was found").wait_for()
    frame.get_by_text("drawn by a script").wait_for()
    page.get_by_text("ranking.json").first.click()
    page.get_by_text("validation_mean").first.wait_for()
    page.get_by_text("study.yaml").first.click()
    page.get_by_text("largest_shots").first.wait_for()


def test_optuna_dashboard_shows_trials_and_their_curves_and_follows_the_records(
    told: tuple[ToldStudy, str], open_page: Callable[..., Any]
) -> None:
    import dataclasses

    store = StudyStore(told[1], "told")
    trials = store.load_trials()
    shown = [trials[:2]]
    ended = threading.Event()
    with optuna_page("told", lambda: shown[-1]) as page, page.served("127.0.0.1", 0) as place:
        browser = open_page(place).page
        browser.set_default_timeout(PATIENCE_MS)
        browser.wait_for_function(DRAWN, arg=sorted(len(trial.epochs) for trial in shown[0]))
        browser.goto(place + "/trials")
        browser.get_by_text("Trial 0").first.wait_for()
        assert browser.get_by_text("Trial 2").count() == 0
        browser.get_by_text("Trial 1").first.click()
        browser.get_by_text("Pruned").first.wait_for()

        fresh = dataclasses.replace(trials[2], number=2)
        shown.append([*trials[:2], fresh])
        thread = threading.Thread(target=page.follow, args=(ended,), kwargs={"pause": 0.05})
        thread.start()
        browser.reload()
        browser.get_by_text("Trial 2").first.wait_for()
        ended.set()
        thread.join()
