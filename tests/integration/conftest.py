"""A Ray shared by the tests of a run, and a study so small that it trains in seconds."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent

TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "patch_size": 4, "width": 48, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="session")
def importable() -> Iterator[None]:
    """Lets workers and subprocesses import the modules beside the tests."""
    former = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [former])])
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))
    if former is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = former


@pytest.fixture(scope="session")
def shared_ray(importable: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local Ray for two slots; studies that run in this process use it. Gives the stand-in's folder."""
    from orchestrator.slots import environment

    folder = tmp_path_factory.mktemp("stand-in")
    os.environ["STAND_IN"] = str(folder)
    environment.prepare()
    import ray

    from orchestrator.slots.cluster import start_ray

    assert start_ray(slots=2, cpus=1, gpus=0)
    yield folder
    ray.shutdown()
    del os.environ["STAND_IN"]


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study file on 2 domains of 4 classes with a random CLIP of 2 layers: real training, no meaning."""
    import numpy as np
    from PIL import Image
    from safetensors.torch import save_file

    from mmap_model.backbone import random_backbone

    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for domain in ("plain", "noisy"):
        for name in ("anchor", "bell", "cat", "dog"):
            pattern = rng.integers(0, 256, (16, 16, 3))
            for index in range(8):
                noise = rng.integers(0, 60, (16, 16, 3))
                pixels = np.clip(pattern + noise, 0, 255).astype(np.uint8)
                path = folder / "images" / domain / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    backbone = random_backbone(layers=2)
    clip = folder / "clip"
    clip.mkdir()
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (clip / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": preprocess})
    )
    weights = {name: tensor.contiguous() for name, tensor in backbone.clip.state_dict().items()}
    save_file(weights, clip / "open_clip_model.safetensors")
    study = folder / "tiny.yaml"
    study.write_text(
        f"""
name: tiny
dataset: {{name: folder, root: {folder / "images"}}}
backbone: {{model: "local-dir:{clip}"}}
splits: [{{shots: 2}}]
seeds: [1, 2]
recipe: {{epochs: 6, batch_size: 4, warmup_epochs: 1, augment: false}}
grouping:
  snapshot_every: 2
  probe: {{prompt_length: 2, source_rows: 2, source_cols: 4, recipe: {{epochs: 2, batch_size: 4}}}}
space:
  - name: mmap_shape
    prompt_length: [2, 4]
  - {{name: learning_rate, low: 0.01, high: 0.1}}
search: {{trials: 4}}
slots: {{count: 1}}
finalists: 2
"""
    )
    return study


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of MLflow without a run; making one takes many seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def database(empty: Path, tmp_path: Path) -> Callable[[str], str]:
    """URIs of databases of one's own."""

    def make(name: str) -> str:
        shutil.copy(empty, tmp_path / f"{name}.db")
        return f"sqlite:///{tmp_path / name}.db"

    return make


@pytest.fixture
def with_database(empty: Path, tmp_path: Path) -> Path:
    """A folder of one's own with a database of MLflow in it, ``mlflow.db``, that has no run yet."""
    shutil.copy(empty, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client in this process: its own takes ten seconds to start."""
    from orchestrator.tracking import study_tracker
    from orchestrator.tracking.mlflow.writer import MlflowWriter

    monkeypatch.setattr(study_tracker, "BackendProcess", MlflowWriter)
