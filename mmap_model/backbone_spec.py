"""Which CLIP is tuned, by name; imports neither torch nor open_clip."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmap_model.architecture import (
    SYMBOLS,
    in_directory,
    model_directory,
    read_architecture,
    weights_in,
)
from mmap_model.errors import BackboneError
from mmap_model.paths import expanded, is_file, is_folder
from mmap_model.revisions import added_field


@dataclass(frozen=True)
class BackboneSpec:
    """Names a CLIP.

    Attributes:
        model: ``symbols`` or ``symbols_long`` (small, ship with this package), an open_clip model name such
            as ``ViT-B-16-quickgelu``, or ``local-dir:DIR`` with ``open_clip_config.json`` (or the
            ``config.json`` of a Hugging Face CLIPModel) and weights in DIR.
        pretrained: open_clip tag such as ``openai``, or a checkpoint file or its folder; always and only with
            a model name. See ``mmap_model.weights`` for what is read and what is refused.
        activation: what the weights were trained with, ``gelu`` or ``quickgelu``, where nothing in or beside
            them says so. Whatever does say so must agree.
    """

    model: str = SYMBOLS
    pretrained: str | None = None
    activation: Literal["gelu", "quickgelu"] | None = added_field(None)

    def __post_init__(self) -> None:
        if self.activation not in (None, "gelu", "quickgelu"):
            raise BackboneError(
                f"{self.activation!r} is not an activation of CLIP",
                where="backbone.activation",
                fix="use gelu or quickgelu, or leave it out",
            )
        if self.model == SYMBOLS and self.pretrained is not None:
            raise BackboneError(
                f"{self.pretrained!r} is given without the model that it belongs to",
                where="backbone.pretrained",
                fix="add backbone.model, the architecture's name in open_clip (ViT-B-16-quickgelu for "
                f"OpenAI's ViT-B-16.pt), or remove backbone.pretrained: {SYMBOLS} brings its own weights",
            )
        if self.in_directory and self.pretrained is not None:
            raise BackboneError(
                f"{self.model!r} brings its own weights, so pretrained={self.pretrained!r} would be ignored",
                where="backbone.pretrained",
                fix="remove backbone.pretrained",
            )
        if not self.in_directory and self.pretrained is None:
            raise BackboneError(
                f"{self.model!r} has no weights without a tag or file",
                where="backbone.pretrained",
                fix="add an open_clip tag (openai for ViT-B-16-quickgelu) or the path of a checkpoint file",
            )

    @property
    def in_directory(self) -> bool:
        """The configuration and the weights lie in one folder."""
        return in_directory(self.model)

    @property
    def weights_file(self) -> Path | None:
        """The weights, or None for a tag.

        Raises:
            BackboneError: the folder or file does not exist.
        """
        if self.in_directory:
            return _weights_in(model_directory(self.model))
        assert self.pretrained is not None
        path = expanded(self.pretrained)
        if is_file(path):
            return path
        if is_folder(path) and os.sep in self.pretrained:
            return _weights_in(path, "backbone.pretrained")
        if path.suffix or os.sep in self.pretrained:
            raise BackboneError(
                f"{path} does not exist",
                where="backbone.pretrained",
                fix="give the path of a checkpoint file",
            )
        return None


def counted_parameters(spec: BackboneSpec) -> int:
    """Of the whole CLIP without unused vocabulary, see ``Architecture``."""
    return read_architecture(spec.model).counted_parameters


def _weights_in(folder: Path, where: str = "backbone.model") -> Path:
    path = weights_in(folder, where)
    if path is None:
        raise BackboneError(
            f"{folder} holds no weights", where=where, fix=f"put open_clip_model.safetensors into {folder}"
        )
    return path
