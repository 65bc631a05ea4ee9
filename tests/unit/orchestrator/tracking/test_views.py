"""The tags by which MLflow's page opens a study as it should."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.tracking import Connection
from orchestrator.tracking.mlflow.views import KIND_TAG, VIEW_TAG, address, lacking_tags, view_key

TO = Connection(
    uri="sqlite:///x.db", experiment="demo", study="a1", varies=("recipe.lr", "settings.prompt_length")
)


def view(tags: dict[str, str], which: str) -> dict[str, Any]:
    envelope = json.loads(tags[VIEW_TAG + view_key("a1", which)])
    assert envelope["createdAt"] == envelope["updatedAt"] == 7 and envelope["name"].startswith("demo: trials")
    state: dict[str, Any] = json.loads(envelope["state"])
    return state


def test_an_experiment_without_tags_gets_its_kind_and_two_views_of_the_study() -> None:
    tags = lacking_tags(TO, {}, at=7)
    assert tags[KIND_TAG] == "custom_model_development"
    trials, cells = view(tags, "trials"), view(tags, "cells")
    assert trials["searchFilter"] == "tags.`mmap.study` = 'a1' AND tags.`kind` != 'cell'"
    assert (trials["orderByKey"], trials["orderByAsc"]) == ("metrics.`val_accuracy_mean`", False)
    assert "params.`recipe.lr`" in trials["selectedColumns"] and "tags.`state`" in trials["selectedColumns"]
    assert cells["orderByKey"] == "attributes.start_time", "the one order in which the page nests runs"
    assert all(len(value) < 5000 for value in tags.values())


def test_an_experiment_that_has_them_is_left_alone_and_its_kind_is_its_owner_s() -> None:
    tags = {**lacking_tags(TO, {}, at=7), KIND_TAG: "genai_development"}
    assert lacking_tags(TO, tags, at=9) == {}
    wider = Connection(uri=TO.uri, experiment="demo", study="a1", varies=("recipe.lr",))
    assert set(lacking_tags(wider, tags, at=9)) == {
        VIEW_TAG + view_key("a1", "trials"),
        VIEW_TAG + view_key("a1", "cells"),
    }
    broken = {**tags, VIEW_TAG + view_key("a1", "cells"): "deflate;gibberish"}
    assert set(lacking_tags(TO, broken, at=9)) == {VIEW_TAG + view_key("a1", "cells")}


def test_the_address_is_of_the_runs_of_this_study() -> None:
    shown = address("http://127.0.0.1:5000/", "3", "a1")
    assert (
        shown
        == "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=mmap-a1-trials"
    )
