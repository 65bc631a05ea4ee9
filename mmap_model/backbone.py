"""A frozen CLIP, loaded through open_clip as released (whose import takes seconds: done on first use)."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmap_model.architecture import Architecture, parse_architecture, read_architecture
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.errors import BackboneError, BackboneWarning
from mmap_model.fingerprint import fingerprint
from mmap_model.preprocessing import CLIP_PREPROCESSING, Preprocessing
from mmap_model.weights import load_weights

if TYPE_CHECKING:
    from open_clip import CLIP

COUNTERS = "num_batches_tracked"
"""What BatchNorm counts in training; it decides no feature."""

__all__ = ["Backbone", "BackboneSpec", "load_backbone", "random_backbone"]


class Backbone:
    """A CLIP whose weights never change, in evaluation mode.

    Attributes:
        spec: where it came from; None for a random one.
        clip: the open_clip model.
        architecture: its shape.
        image_mean, image_std: normalisation of pixels in [0, 1], per channel.
        image_size: side of the square input.
        resize: how images are made that square.
    """

    def __init__(
        self,
        clip: CLIP,
        architecture: Architecture,
        config: dict[str, Any],
        *,
        preprocessing: Preprocessing = CLIP_PREPROCESSING,
        spec: BackboneSpec | None = None,
    ) -> None:
        self.clip = clip.eval().requires_grad_(False)
        self.architecture = architecture
        self.config = config
        self.preprocessing = preprocessing
        self.image_mean, self.image_std = preprocessing.mean, preprocessing.std
        self.resize = preprocessing.resize
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
        blocks = (self.clip.transformer, getattr(self.clip.visual, "transformer", None))
        matrices = {
            id(p): nn.Parameter(p.detach().to(torch.bfloat16), requires_grad=False)
            for tower in blocks
            if tower is not None  # of a ModifiedResNet, whose convolutions are cast at every use
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
        encoding = _tokenizer()
        length = self.architecture.context_length
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens = [encoding.sot_token_id, *encoding.encode(text), encoding.eot_token_id]
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
        """Of configuration and weights, 32 hexadecimal digits; see ``mmap_model.fingerprint``."""
        held = self.clip.state_dict()
        return fingerprint(
            self.architecture,
            self.config,
            preprocessing=self.preprocessing,
            weights={name: held[name].detach().float().cpu().numpy() for name in self.architecture.shapes},
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
    """Load a frozen CLIP. What cannot be proven of its weights is warned of, as a ``BackboneWarning``.

    Raises:
        BackboneError: unknown model, no or unreadable weights, weights that are not this model's or have
            values that are not finite, an activation that they were not trained with, or a CLIP that cannot
            be prompted; each with the reason and what to do.
    """
    from open_clip import CLIP

    loaded = load_weights(spec)
    for text in loaded.warnings:
        warnings.warn(text, BackboneWarning, stacklevel=2)
    config = dict(loaded.config)
    try:
        clip = CLIP(**{key: copy.deepcopy(value) for key, value in config.items() if key != "custom_text"})
    except TypeError as error:
        raise BackboneError(
            f"open_clip does not take the configuration of {spec.model!r}: {error}",
            where="backbone.model",
            fix="remove the key that it does not know",
        ) from error
    tensors = {name: torch.from_numpy(array) for name, array in loaded.tensors.items()}
    left = clip.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys and all(name.endswith(COUNTERS) for name in left.missing_keys)
    return Backbone(
        clip.to(device=device, dtype=dtype),
        read_architecture(spec.model),
        config,
        preprocessing=loaded.preprocessing,
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
    stages: tuple[int, int, int, int] | None = None,
    embed_dim: int = 24,
    context_length: int = 77,
    quick_gelu: bool = False,
) -> Backbone:
    """A randomly initialised CLIP for tests and measurements; ``text_layers`` defaults to ``layers``.

    Biases and LayerNorm weights, which open_clip starts at zero and one, are random too. With ``stages`` its
    image tower is a ModifiedResNet with so many blocks in each stage, whose running statistics are random.
    """
    from open_clip import CLIP

    config: dict[str, Any] = {
        "embed_dim": embed_dim,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": image_size,
            "patch_size": patch_size,
            "width": image_width,
            "layers": layers if stages is None else list(stages),
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
        for name, buffer in clip.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer), alpha=0.1)
    return Backbone(
        clip.to(device=device, dtype=dtype),
        parse_architecture("random", config),
        config,
    )


@functools.cache
def _tokenizer() -> Any:
    """CLIP's byte-pair encoding; models with any other tokenizer are refused (``architecture.py``)."""
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()
