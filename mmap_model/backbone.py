"""A frozen CLIP, loaded through open_clip as released (whose import takes seconds: done on first use)."""

from __future__ import annotations

import copy
import functools
import json
import math
import pickle
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmap_model.architecture import (
    LOCAL_DIR,
    Architecture,
    model_config,
    model_directory,
    parse_architecture,
    read_architecture,
)
from mmap_model.backbone_spec import OPENAI_MEAN, OPENAI_STD, BackboneSpec, fingerprint
from mmap_model.errors import BackboneError

if TYPE_CHECKING:
    from open_clip import CLIP

__all__ = ["Backbone", "BackboneSpec", "load_backbone", "random_backbone"]


class Backbone:
    """A CLIP whose weights never change, in evaluation mode.

    Attributes:
        spec: where it came from; None for a random one.
        clip: the open_clip model.
        architecture: its shape.
        image_mean, image_std: normalisation of pixels in [0, 1], per channel.
        image_size: side of the square input.
    """

    def __init__(
        self,
        clip: CLIP,
        architecture: Architecture,
        config: dict[str, Any],
        *,
        image_mean: Sequence[float],
        image_std: Sequence[float],
        spec: BackboneSpec | None = None,
    ) -> None:
        self.clip = clip.eval().requires_grad_(False)
        self.architecture = architecture
        self.config = config
        self.image_mean = tuple(float(v) for v in image_mean)
        self.image_std = tuple(float(v) for v in image_std)
        self.image_size = architecture.image_size
        self.spec = spec

    @property
    def device(self) -> torch.device:
        return self.clip.logit_scale.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.clip.logit_scale.dtype  # type: ignore[no-any-return]

    def to(self, device: torch.device | str) -> Backbone:
        """Move the weights in place; nothing happens where they are there already.

        What counts is where they were and are: names of one device differ (``cuda`` is ``cuda:0``).
        """
        before = self.device
        self.clip.to(device)
        if self.device != before:
            self.__dict__.pop("in_bf16", None)
        return self

    @cached_property
    def in_bf16(self) -> CLIP:
        """The model with the blocks' matrices in bf16, as autocast would cast them at every use."""
        matrices = {
            id(p): nn.Parameter(p.detach().to(torch.bfloat16), requires_grad=False)
            for tower in (self.clip.transformer, self.clip.visual.transformer)
            for p in tower.parameters()
            if p.ndim == 2
        }
        # Everything else is shared, not copied.
        shared = {id(t): t for t in (*self.clip.parameters(), *self.clip.buffers()) if id(t) not in matrices}
        return copy.deepcopy(self.clip, matrices | shared)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 [n, context length]: start of text, words, end of text, zeros.

        Raises:
            BackboneError: a text is longer than the context.
        """
        tokenizer = _tokenizer()
        length = self.architecture.context_length
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens = [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]
            if len(tokens) > length:
                raise BackboneError(
                    f"{text!r} has {len(tokens)} tokens, the text tower takes {length}",
                    where="template",
                    fix="shorten the template or the class name",
                )
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids

    @cached_property
    def fingerprint(self) -> str:
        """Of configuration and weights, 32 hexadecimal digits; see ``backbone_spec.fingerprint``."""
        return fingerprint(
            self.architecture,
            self.config,
            mean=self.image_mean,
            std=self.image_std,
            weights={name: p.detach().float().cpu().numpy() for name, p in self.clip.named_parameters()},
        )

    @cached_property
    def parameters(self) -> int:
        """Number of parameters of the whole CLIP."""
        return sum(p.numel() for p in self.clip.parameters())

    @property
    def counted_parameters(self) -> int:
        """``parameters`` without unused vocabulary, see ``Architecture``."""
        return self.architecture.counted_parameters


def load_backbone(
    spec: BackboneSpec, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Backbone:
    """Load a frozen CLIP.

    Raises:
        BackboneError: unknown model, no or unreadable weights, an activation that the weights were not
            trained with, or a CLIP that cannot be prompted; each with the reason and what to do.
    """
    import open_clip

    config = model_config(spec.model)
    architecture = read_architecture(spec.model)
    path = spec.weights_file
    _refuse_wrong_activation(spec, config, path)
    name = f"{LOCAL_DIR}{model_directory(spec.model)}" if spec.in_directory else spec.model
    if path is not None and _is_torchscript(path):
        clip = open_clip.create_model(name, load_weights=False)
        state = torch.jit.load(path, map_location="cpu").state_dict()
        for key in ("input_resolution", "context_length", "vocab_size", "attn_mask"):
            state.pop(key, None)
        _load(lambda: clip.load_state_dict(state), spec)
    else:
        pretrained = None if spec.in_directory else str(path or spec.pretrained)
        clip = _load(lambda: open_clip.create_model(name, pretrained, require_pretrained=True), spec)
    preprocess = clip.visual.preprocess_cfg
    return Backbone(
        clip.to(device=device, dtype=dtype),
        architecture,
        config,
        image_mean=preprocess["mean"],
        image_std=preprocess["std"],
        spec=spec,
    )


def random_backbone(
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    text_width: int = 32,
    image_width: int = 48,
    layers: int = 3,
    text_layers: int | None = None,
    text_heads: int = 2,
    head_width: int = 16,
    image_size: int = 16,
    patch_size: int = 4,
    embed_dim: int = 24,
    context_length: int = 77,
    quick_gelu: bool = False,
) -> Backbone:
    """A randomly initialised CLIP for tests and measurements; ``text_layers`` defaults to ``layers``.

    Biases and LayerNorm weights, which open_clip starts at zero and one, are random too.
    """
    from open_clip import CLIP

    config: dict[str, Any] = {
        "embed_dim": embed_dim,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": image_size,
            "patch_size": patch_size,
            "width": image_width,
            "layers": layers,
            "head_width": head_width,
        },
        "text_cfg": {
            "context_length": context_length,
            "vocab_size": 49408,
            "width": text_width,
            "heads": text_heads,
            "layers": layers if text_layers is None else text_layers,
        },
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        clip = CLIP(**config, init_logit_scale=math.log(1 / 0.07))
        for name, parameter in clip.named_parameters():
            if name != "logit_scale" and parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return Backbone(
        clip.to(device=device, dtype=dtype),
        parse_architecture("random", config),
        config,
        image_mean=OPENAI_MEAN,
        image_std=OPENAI_STD,
    )


@functools.cache
def _tokenizer() -> Any:
    """CLIP's byte-pair encoding; models with any other tokenizer are refused (``architecture.py``)."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()


def _load(load: Any, spec: BackboneSpec) -> Any:
    from safetensors import SafetensorError

    try:
        return load()
    except (RuntimeError, OSError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        source = spec.pretrained or spec.model
        if spec.weights_file is None:
            fix = (
                "run once with a connection (the file is kept in the Hugging Face cache, HF_HOME), or give "
                "backbone.pretrained the path of a checkpoint file copied to this machine"
            )
        else:
            fix = f"give weights that fit {spec.model}"
        reason = str(error).splitlines()
        raise BackboneError(
            f"the weights of {source!r} could not be loaded: {' '.join(reason[:3])[:500]}",
            where="backbone.pretrained" if spec.pretrained else "backbone.model",
            fix=fix,
        ) from error


def _refuse_wrong_activation(spec: BackboneSpec, config: dict[str, Any], path: Path | None) -> None:
    """Weights trained with QuickGELU load cleanly into a GELU model, and every feature is wrong."""
    if spec.in_directory:
        return
    assert spec.pretrained is not None
    trained_with = _tag_activation(spec) if path is None else _file_activation(path)
    if trained_with is None or trained_with == bool(config.get("quick_gelu", False)):
        return
    stem = spec.model.removesuffix("-quickgelu")
    raise BackboneError(
        f"{spec.pretrained!r} was trained with {'QuickGELU' if trained_with else 'GELU'}, "
        f"but {spec.model!r} computes {'GELU' if trained_with else 'QuickGELU'}",
        where="backbone.model",
        fix=f"use {stem}-quickgelu" if trained_with else f"use {stem}",
    )


def _tag_activation(spec: BackboneSpec) -> bool | None:
    """Whether the tag's weights want QuickGELU. Raises BackboneError for an unknown tag."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    stem = spec.model.removesuffix("-quickgelu")
    for name in (spec.model, stem, f"{stem}-quickgelu"):
        known = get_pretrained_cfg(name, spec.pretrained)
        if known:
            return bool(known.get("quick_gelu", False))
    tags = ", ".join(list_pretrained_tags_by_model(spec.model))
    raise BackboneError(
        f"{spec.pretrained!r} is neither a file nor a pretrained tag of {spec.model!r}",
        where="backbone.pretrained",
        fix=f"use one of {tags}" if tags else "give the path of a checkpoint file",
    )


def _file_activation(path: Path) -> bool | None:
    """Whether a file's weights want QuickGELU, where it can be told; else None.

    It can be told from a configuration beside the file (as in a Hugging Face snapshot), from the file name
    of a release that open_clip knows, and from TorchScript: only OpenAI published CLIP so, with QuickGELU.
    """
    from open_clip import pretrained

    beside = path.parent / "open_clip_config.json"
    if beside.is_file():
        return bool(json.loads(beside.read_text()).get("model_cfg", {}).get("quick_gelu", False))
    if _is_torchscript(path):
        return True
    for model, tag in pretrained.list_pretrained():
        known = pretrained.get_pretrained_cfg(model, tag)
        if path.name == Path(known.get("url") or "-").name:
            return bool(known.get("quick_gelu", False))
    return None


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
