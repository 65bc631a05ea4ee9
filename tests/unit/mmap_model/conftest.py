"""A plain prompted CLIP to compare with: whole open_clip blocks, one task and class after another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone, random_backbone
from mmap_model.cells import Configuration, Point
from mmap_model.checkpoint import pack_prompts
from mmap_model.inference.trained import Trained
from mmap_model.methods import Problem, get_method
from mmap_model.testing.method_cases import CASES
from mmap_model.testing.support import IMAGES, NoiseSupport
from mmap_model.testing.weight_files import PLAIN, QUICK

CUSTOM_METHODS = Path(__file__).with_name("deployed_methods.py")
UNEQUAL_CLASSES = (
    ("dog", "alarm_clock", "sea turtle", "cat", "power_outlet"),
    ("dog", "cat"),
    ("string_bean", "The_Eiffel_Tower", "teddy-bear"),
)

Reference = Callable[..., Tensor]


def plain_images(backbone: Backbone, pixels: Tensor, prompts: Sequence[Tensor]) -> Tensor:
    """Unit features [B, E] of pixels [B, 3, H, W] with prompts [P, D] per layer, dropped after it."""
    visual = backbone.clip.visual
    x = visual._embeds(pixels)
    for layer, block in enumerate(visual.transformer.resblocks):
        if layer < len(prompts):
            prompt = prompts[layer].expand(len(x), -1, -1)
            x = block(torch.cat([x[:, :1], prompt, x[:, 1:]], dim=1))
            x = torch.cat([x[:, :1], x[:, 1 + prompt.shape[1] :]], dim=1)
        else:
            x = block(x)
    pooled, _ = visual._pool(x)
    return F.normalize(pooled @ visual.proj, dim=-1)


def plain_texts(
    backbone: Backbone, texts: Sequence[str], prompts: Sequence[Tensor], assembled: bool
) -> Tensor:
    """Unit features [C, E] of texts with prompts [P, D] per layer between SOS and the words."""
    clip = backbone.clip
    ids = backbone.tokenize(texts)
    length = prompts[0].shape[0] if len(prompts) else 0
    places = torch.arange(ids.shape[1])
    if assembled:
        ids = ids[:, : ids.shape[1] - length]
        places = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(1 + length, 77)])
    x = clip.token_embedding(ids) + clip.positional_embedding[places]
    for layer, block in enumerate(clip.transformer.resblocks):
        if layer < len(prompts):
            prompt = prompts[layer]
            if assembled and layer == 0:
                prompt = prompt + clip.positional_embedding[1 : 1 + length]
            x = torch.cat([x[:, :1], prompt.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype).triu(1)
        x = block(x, attn_mask=mask)
        if layer < len(prompts):
            x = torch.cat([x[:, :1], x[:, 1 + length :]], dim=1)
    x = clip.ln_final(x)[torch.arange(len(x)), ids.argmax(dim=1)]
    return F.normalize(x @ clip.text_projection, dim=-1)


def plain_features(
    backbone: Backbone,
    pixels: Tensor,
    texts: Sequence[str],
    text_prompts: Sequence[Tensor] = (),
    image_prompts: Sequence[Tensor] = (),
    assembled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Unit features of images [B, E] and classes [C, E] of one prompt set."""
    images = plain_images(backbone, pixels, image_prompts)
    return images, plain_texts(backbone, texts, text_prompts, assembled)


def plain_logits(backbone: Backbone, *given: Any) -> Tensor:
    """exp(logit_scale)·cosine [B, C] of one prompt set; arguments as for ``plain_features``."""
    images, classes = plain_features(backbone, *given)
    scale: Tensor = backbone.clip.logit_scale.exp()
    return scale * images @ classes.T


@pytest.fixture(scope="session")
def reference_features() -> Callable[..., tuple[Tensor, Tensor]]:
    return plain_features


@pytest.fixture(scope="session")
def reference_logits() -> Reference:
    return plain_logits


@pytest.fixture(scope="session")
def clips_of_both_activations() -> dict[str, Backbone]:
    """The same weights computing GELU and QuickGELU; narrow, because they are written to many files."""
    return {name: random_backbone(text_width=8, quick_gelu=name == QUICK) for name in (PLAIN, QUICK)}


@pytest.fixture
def originals(
    clips_of_both_activations: dict[str, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Backbone]]:
    """Both of them by name, as models of open_clip, with a cache of fingerprints of one's own."""
    configs = tmp_path / "model_configs"
    configs.mkdir()
    for name, backbone in clips_of_both_activations.items():
        (configs / f"{name}.json").write_text(json.dumps(backbone.config))
    monkeypatch.setattr("mmap_model.architecture._open_clip_configs", lambda: configs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield clips_of_both_activations
    shutil.rmtree(tmp_path / "weights", ignore_errors=True)


LIKE = {
    **dict.fromkeys(("joint group", "joint task", "mlp group", "mlp task", "mmap task"), "mmap group"),
    **dict.fromkeys(("clap", "clap multi", "task_res", "zs_lp", "zs_lp single"), "task_res single"),
    **dict.fromkeys(("task_res grouped", "zs_lp grouped"), "task_res single"),
    **dict.fromkeys(("clip_lora multi", "clip_lora"), "clip_lora grouped"),
    **dict.fromkeys(("ivlp", "ivlp single", "promptsrc", "promptsrc single"), "ivlp grouped"),
    "vpt grouped": "ivlp grouped",
    "clip_adapter grouped": "clip_adapter shared",
    "two_stage multi": "two_stage",
    **dict.fromkeys(("tip_adapter", "tip_adapter_f", "tip_adapter_f multi"), "tip_adapter multi"),
}
"""Cases that take the same way through deployment and export as another one."""

assert set(LIKE) | set(LIKE.values()) <= set(CASES)
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: case for name, case in CASES.items() if name not in LIKE},
    "custom features": (f"{CUSTOM_METHODS}:CustomFeatures", {}),
    "custom finish": (f"{CUSTOM_METHODS}:CustomFinish", {}),
}
"""Every way that methods of the library take, and two custom ones; they fit the tiny CLIPs."""

TASKS = dict(zip(("art", "photo", "map"), UNEQUAL_CLASSES, strict=True))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``method_case`` for each of ``METHODS``."""
    if "method_case" in metafunc.fixturenames:
        metafunc.parametrize("method_case", METHODS)


WAYS = (
    "clip_adapter",
    "full_ft",
    "maple single",
    "mmap",
    "custom features",
    "custom finish",
    "vpt single",
    "zero_shot",
)
"""One case for each way that images take through a tower."""

COMPILED = ("onnx", "torch-export")
"""Formats of which writing a file takes seconds."""

TRANSLATED = {"custom finish": "custom features", "full_ft": "full_ft single"}
"""Of ``WAYS``: cases whose program, which is compared, has the operators of another that is made ONNX."""


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave methods whose images go the same way as another's, in formats that take seconds, to slow runs."""
    for item in items:
        params = getattr(item, "callspec", None) and item.callspec.params
        kind, case = (params.get(name) for name in ("kind", "method_case")) if params else (None, None)
        another = case not in WAYS or (kind == "onnx" and case in TRANSLATED)
        if kind in COMPILED and case is not None and another:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def trained_case() -> Callable[..., Trained]:
    """Makes what training could have left of a method: ``trained_case(case, backbone, tasks=None)``.

    Every tensor has moved by noise, so that tasks of their own copies differ.
    """

    def make(case: str, backbone: Backbone, tasks: Sequence[str] | None = None) -> Trained:
        name, settings = METHODS[case]
        point = Point.from_dict({"method": name, "settings": settings})
        method = get_method(name)
        partition = ((0, 2), (1,)) if method.needs_partition(point.settings) else None
        configuration = Configuration(method=name, settings=point.settings, partition=partition)
        model = method.build(
            point.settings,
            backbone,
            Problem(
                classes=list(TASKS.values()),
                template=configuration.recipe.template,
                partitions=[partition],
                train_seeds=[1],
                images=IMAGES,
            ),
        )
        if model.fits:
            model.fit(NoiseSupport([1], backbone))
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(noise.to(parameter), alpha=0.05)
        files = pack_prompts(
            model, 0, configuration=configuration, tasks=TASKS, backbone=backbone, images=IMAGES
        )
        return Trained.of(files, backbone, tasks)

    return make
