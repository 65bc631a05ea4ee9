"""Shared fixtures: tiny random CLIPs, built in milliseconds once open_clip is imported, and a browser."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Processes that tests start, and the next run, find libraries and tests compiled. Where an environment
# forbids to keep that, each of them compiles torch, Ray and MLflow again: longer than what is tested.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import gc
import runpy
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from orchestrator.slots import environment

sys.dont_write_bytecode = False

# No test has a time limit: a busy machine may take a second over one example.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A shell that starts tests in the background has them ignore Ctrl-C, and all that they start with them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Ray reads how it authenticates when it is first imported, which the collection of tests may do.
environment.prepare()

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from mmap_model.backbone import Backbone
    from mmap_model.data import Dataset
    from orchestrator.study import StudyPlan


def pytest_collection_finish() -> None:
    """Leave libraries and collected tests out of what is looked through for garbage while tests run."""
    gc.collect()
    gc.freeze()


UNEQUAL_CLASSES = (
    ("dog", "alarm_clock", "sea turtle", "cat", "power_outlet"),
    ("dog", "cat"),
    ("string_bean", "The_Eiffel_Tower", "teddy-bear"),
)
"""Three tasks with class lists of different lengths and names of one to four tokens."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch goes on with one thread after each test, whatever number a command run by it has set.

    Models this small gain nothing from a second one, and threads that wait for each other keep a core busy:
    training took ten times as long in a process whose earlier test had called ``run``.
    """
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def first_records(tmp_path: Path) -> Path:
    """A fresh copy of what commit c52b462 wrote: ``runs`` (storage), ``mlflow.db`` and the study files."""
    folder = tmp_path / "first_records"
    with tarfile.open(Path(__file__).parent / "records" / "c52b462.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def earlier_plan(first_records: Path) -> Callable[[str], StudyPlan]:
    """The plan of a study among the first records, on the images that it was about, by its name."""

    def plan(name: str) -> StudyPlan:
        from orchestrator.study import load_plan

        made = first_records / "made"
        script = runpy.run_path(str(Path(__file__).parent / "records" / "images.py"))
        script["make_images"](made / "images")
        script["make_lists"](made / "lists")
        lists = [f"dataset.lists={made / 'lists'}"] if name == "fixed" else []
        overrides = [f"dataset.root={made / 'images'}", f"storage={first_records / 'runs'}", *lists]
        return load_plan(str(first_records / f"{name}.yaml"), overrides)

    return plan


@pytest.fixture(scope="session")
def tiny_backbone() -> Backbone:
    """Random CLIP: text width 32, image width 48, 3 layers each, 16 patches; float32."""
    from mmap_model.backbone import random_backbone

    return random_backbone()


@pytest.fixture(scope="session")
def tiny_backbone_fp64() -> Backbone:
    """The same in float64, for comparisons to rounding error."""
    import torch

    from mmap_model.backbone import random_backbone

    return random_backbone(dtype=torch.float64)


@pytest.fixture(scope="session")
def unequal_classes() -> tuple[tuple[str, ...], ...]:
    """Class names of three tasks with unequal class lists."""
    return UNEQUAL_CLASSES


@pytest.fixture(scope="session")
def pattern_dataset() -> Callable[..., Dataset]:
    """Makes an in-memory dataset of 16-pixel images: ``pattern_dataset({task: (domain, images by class)})``.

    See ``mmap_model.testing.PatternDataset``.
    """
    from mmap_model.testing import PatternDataset

    return PatternDataset


@pytest.fixture(scope="session")
def tiny_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of kind ``prompts`` on a random CLIP in a folder of its own.

    Its tasks are ``photo`` (5 classes) and ``sketch`` (2); pale images are nearer to ``photo``, dark ones to
    ``sketch``.
    """
    import torch

    from mmap_model.backbone import BackboneSpec, load_backbone, random_backbone
    from mmap_model.cells import Configuration, Point
    from mmap_model.checkpoint import pack_prompts
    from mmap_model.inference.exporting import export
    from mmap_model.inference.plain import plain_images
    from mmap_model.inference.trained import Trained
    from mmap_model.methods import Problem, get_method
    from mmap_model.training.pixels import Normalisation

    folder = tmp_path_factory.mktemp("artefact")
    backbone = load_backbone(BackboneSpec(f"local-dir:{_saved_clip(random_backbone(), folder / 'clip')}"))
    tasks = dict(zip(("photo", "sketch"), UNEQUAL_CLASSES, strict=False))
    settings = {"prompt_length": 4, "source_rows": 2, "source_cols": 8}
    point = Point.from_dict({"method": "mmap", "settings": settings})
    configuration = Configuration(method="mmap", settings=point.settings, partition=((0, 1),))
    problem = Problem(
        classes=list(tasks.values()),
        template=configuration.recipe.template,
        partitions=[configuration.partition],
        train_seeds=[1],
    )
    model = get_method("mmap").build(point.settings, backbone, problem)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
        levels = torch.tensor([220, 30], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 16, 16)
        means = plain_images(backbone)(Normalisation(backbone)(levels), torch.zeros(2, dtype=torch.int64))
    files = pack_prompts(model, 0, configuration=configuration, tasks=tasks, backbone=backbone)
    export(Trained.of(files, backbone), folder / "winner", "prompts", task_features=means)
    return folder / "winner"


def _saved_clip(backbone: Backbone, folder: Path) -> Path:
    """A random CLIP as a folder that open_clip loads."""
    import json

    from safetensors.torch import save_file

    folder.mkdir()
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    config = {"model_cfg": backbone.config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous() for name, tensor in backbone.clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by playwright, whose own browsers are not needed.

    It ends with the module: while it is there, playwright's event loop runs in this thread, and tests of
    others could not run one of their own.
    """
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("there is no Chromium here to open pages in: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        page: playwright's.
        requests: addresses that it asked for, other than its own.
        errors: what the console was told as errors, and exceptions that nobody caught.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Opens pages: ``open_page(address, width=1400)`` gives an `Opened`.

    Further arguments are those of ``browser.new_context``, such as ``color_scheme="dark"``; with
    ``offline=True`` nothing can be fetched, files of this machine apart.
    """
    contexts = []

    def open_(address: str | Path, *, width: int = 1400, height: int = 1000, **options: Any) -> Opened:
        url = address.absolute().as_uri() if isinstance(address, Path) else address
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        page = opened.page
        page.on("request", lambda asked: None if asked.url == url else opened.requests.append(asked.url))
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.on("console", lambda said: opened.errors.append(said.text) if said.type == "error" else None)
        page.goto(url)
        return opened

    yield open_
    for context in contexts:
        context.close()
