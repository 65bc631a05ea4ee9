"""The shape of a CLIP, read from its open_clip configuration; no torch, no open_clip."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmap_model import hugging_face
from mmap_model.byte_pairs import token_ids
from mmap_model.errors import BackboneError, nearest
from mmap_model.paths import expanded
from mmap_model.text_files import read_json
from mmap_model.towers import STRIDE, ResNetTower, Tower, norm

LOCAL_DIR = "local-dir:"
SYMBOLS = "symbols"
"""Name of the first small CLIP that ships with this package."""
SHIPPED = {SYMBOLS: "clip", "symbols_long": "clip_long"}
"""Folders of all that ship with it, by name."""
END_OF_TEXT = 49407
"""The largest token id of CLIP's tokenizer."""
CUSTOM_ATTENTION = (
    *("block_type", "qk_norm", "scaled_cosine_attn", "scale_heads"),
    *("scale_attn_inner", "scale_attn", "scale_fc"),
)


_WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pth", "model.pth"),
)
"""Names that libraries give to weights, in the order in which they are looked for."""
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Widths, depths and input sizes of a CLIP with a causal text tower.

    Attributes:
        visual: the image tower, a ViT or a ModifiedResNet.
        patch_size: pixels along a side of what becomes one token, or one cell of a ResNet's last feature map.
        unused_tokens: rows of the vocabulary that are all zero: a reduced model brings CLIP's vocabulary
            along, and no text of it uses them. They stay zero in training.
    """

    model: str
    text: Tower
    visual: Tower | ResNetTower
    embed_dim: int
    context_length: int
    vocab_size: int
    image_size: int
    patch_size: int
    unused_tokens: int = 0

    @property
    def image(self) -> Tower:
        """The image tower, which prompts can enter.

        Raises:
            BackboneError: it is convolutional.
        """
        if isinstance(self.visual, ResNetTower):
            raise BackboneError(
                f"the image tower of {self.model!r} is a ModifiedResNet, which takes no prompts",
                where="backbone.model",
                fix="use a ViT, such as ViT-B-16-quickgelu, or a method that leaves the image tower as it is",
            )
        return self.visual

    @property
    def depth(self) -> int:
        """K: layers that prompts enter, the first ones of both towers."""
        return min(self.text.layers, self.image.layers)

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def parameters(self) -> int:
        """Exact number of parameters of the whole CLIP, logit scale included."""
        t = self.text.width
        text = (self.vocab_size + self.context_length) * t + self.text.parameters + 2 * t
        if isinstance(self.visual, ResNetTower):
            image = self.visual.parameters(self.patches, self.embed_dim)
        else:
            v = self.visual.width
            embedding = 3 * self.patch_size**2 * v + v + (self.patches + 1) * v
            image = embedding + 2 * v + self.visual.parameters + 2 * v + v * self.embed_dim
        return image + text + t * self.embed_dim + 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every parameter, and of running means and variances, by its name in open_clip."""
        t = self.text.width
        return {
            "positional_embedding": (self.context_length, t),
            "text_projection": (t, self.embed_dim),
            "logit_scale": (),
            **self._image_shapes(),
            **self.text.shapes("transformer"),
            "token_embedding.weight": (self.vocab_size, t),
            **norm("ln_final", t),
        }

    def _image_shapes(self) -> dict[str, tuple[int, ...]]:
        if isinstance(self.visual, ResNetTower):
            return self.visual.shapes("visual.", self.patches, self.embed_dim)
        v, side = self.visual.width, self.patch_size
        return {
            "visual.class_embedding": (v,),
            "visual.positional_embedding": (self.patches + 1, v),
            "visual.proj": (v, self.embed_dim),
            "visual.conv1.weight": (v, 3, side, side),
            **norm("visual.ln_pre", v),
            **self.visual.shapes("visual.transformer"),
            **norm("visual.ln_post", v),
        }

    @property
    def counted_parameters(self) -> int:
        """``parameters`` without ``unused_tokens``: what counts and shares of parameters are made of."""
        return self.parameters - self.unused_tokens * self.text.width


def read_architecture(model: str, where: str = "backbone.model") -> Architecture:
    """Architecture of an open_clip model name, of ``local-dir:DIR``, or of one that ships.

    Raises:
        BackboneError: unknown name, missing file, or a model that cannot be prompted, with the reason.
    """
    shape = parse_architecture(model, model_config(model, where), where)
    if not in_directory(model):
        return shape
    path = weights_in(model_directory(model))
    if path is None or path.suffix != ".safetensors":
        return shape
    return replace(shape, unused_tokens=len(_unused_tokens(path, path.stat().st_mtime_ns)))


def check_known(architecture: Architecture, texts: Iterable[str], where: str) -> None:
    """Raise BackboneError where a reduced CLIP has no embedding of a word, as far as its file tells.

    Args:
        texts: ``{}`` in them is left out.
        where: the key that gives them.
    """
    if not architecture.unused_tokens:
        return
    path = weights_in(model_directory(architecture.model))
    unused = frozenset[int]() if path is None else _unused_tokens(path, path.stat().st_mtime_ns)
    for text in texts:
        if not unused.isdisjoint(token_ids(text.replace("{}", ""))):
            raise BackboneError(
                f"{architecture.model!r} was reduced to a vocabulary that lacks words of {text!r}",
                where=where,
                fix="use words that it knows, such as those of the study's own template, or a whole CLIP",
            )


def model_config(model: str, where: str = "backbone.model") -> dict[str, Any]:
    """The open_clip ``model_cfg`` of a model name, of ``local-dir:DIR``, or of one that ships.

    A folder of Hugging Face's ``CLIPModel`` has a ``config.json`` instead, which is translated.
    """
    if in_directory(model):
        return _config_in(model_directory(model), where)
    folder = _open_clip_configs()
    path = folder / f"{model}.json"
    if not path.is_file():
        names = [p.stem for p in folder.glob("*.json")] + [*SHIPPED]
        raise BackboneError(
            f"no open_clip model is named {model!r}", where=where, fix=nearest(model, names)[:200]
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def in_directory(model: str) -> bool:
    """Whether the configuration and the weights of a model lie in one folder, `model_directory`."""
    return model in SHIPPED or model.startswith(LOCAL_DIR)


def model_directory(model: str) -> Path:
    """Folder of a ``local-dir:`` model or of one that ships."""
    if model in SHIPPED:
        return Path(__file__).parent / "symbols" / SHIPPED[model]
    return expanded(model.removeprefix(LOCAL_DIR))


def weights_in(folder: Path, where: str = "backbone.model") -> Path | None:
    """The file of weights in a folder, or the index of its shards: one of the usual names, else the only one.

    Raises:
        BackboneError: there are several, and nothing tells which is meant.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = [path for suffix in _SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    if len(found) > 1:
        raise BackboneError(
            f"{folder} holds several files of weights: {', '.join(path.name for path in found)}",
            where=where,
            fix=f"keep one of them there, or name the one that is meant {_WEIGHTS[0]}",
        )
    return found[0] if found else None


def parse_architecture(model: str, config: dict[str, Any], where: str = "backbone.model") -> Architecture:
    """Check that ``config`` is a CLIP that this software runs, and read its shape."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    reason = _why_not(vision, text, config)
    if reason:
        raise BackboneError(
            f"{model!r} cannot be prompted: {reason}",
            where=where,
            fix="use an open_clip ViT with a class token and a causal text tower, such as ViT-B-16-quickgelu",
        )
    text_width = int(text.get("width", 512))
    return Architecture(
        model=model,
        text=Tower(
            width=text_width,
            layers=int(text.get("layers", 12)),
            heads=int(text.get("heads", 8)),
            hidden=int(text_width * float(text.get("mlp_ratio", 4.0))),
        ),
        visual=_image_tower(vision),
        embed_dim=int(config["embed_dim"]),
        context_length=int(text.get("context_length", 77)),
        vocab_size=int(text.get("vocab_size", END_OF_TEXT + 1)),
        image_size=int(vision.get("image_size", 224)),
        patch_size=STRIDE if isinstance(vision["layers"], list | tuple) else int(vision["patch_size"]),
    )


def _image_tower(vision: dict[str, Any]) -> Tower | ResNetTower:
    width, head = int(vision.get("width", 768)), int(vision.get("head_width", 64))
    if isinstance(vision["layers"], list | tuple):
        return ResNetTower(width=width, layers=tuple(vision["layers"]), heads=width * 32 // head)
    return Tower(
        width=width,
        layers=int(vision["layers"]),
        heads=width // head,
        hidden=int(width * float(vision.get("mlp_ratio", 4.0))),
    )


def _open_clip_configs() -> Path:
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.submodule_search_locations, "open_clip_torch is a dependency"
    return Path(spec.submodule_search_locations[0]) / "model_configs"


def _config_in(folder: Path, where: str) -> dict[str, Any]:
    path, theirs = folder / "open_clip_config.json", folder / "config.json"
    if not path.is_file():
        if theirs.is_file():
            return hugging_face.open_clip_config(_json(theirs, where), str(theirs))
        raise BackboneError(
            f"{path} does not exist",
            where=where,
            fix="give a folder that holds open_clip_config.json, or the config.json of a CLIPModel",
        )
    config = _json(path, where).get("model_cfg")
    if not isinstance(config, dict):
        raise BackboneError(
            f"{path} is not an open_clip configuration: it has no model_cfg",
            where=where,
            fix="give it the keys model_cfg and preprocess_cfg",
        )
    return config


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        content = read_json(path, where, BackboneError)
    except BackboneError as error:
        raise BackboneError(
            f"{path} is not a configuration: {error.problem}", where=where, fix=error.fix
        ) from error
    if not isinstance(content, dict):
        raise BackboneError(
            f"{path} is not a configuration: it holds no keys", where=where, fix="copy it again"
        )
    return content


@lru_cache
def _unused_tokens(path: Path, modified: int) -> frozenset[int]:
    """All-zero rows of the vocabulary in a safetensors file; ``modified`` tells its versions apart."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            held = set(file.keys())
            name = next((n for n in ("token_embedding.weight", hugging_face.TOKENS) if n in held), None)
            if name is None:
                return frozenset()
            if file.get_slice(name).get_dtype() in ("F16", "F32", "F64"):
                return frozenset((file.get_tensor(name) == 0).all(axis=1).nonzero()[0].tolist())
        with safe_open(path, framework="pt") as file:  # numpy has no bfloat16
            return frozenset((file.get_tensor(name) == 0).all(dim=1).nonzero().flatten().tolist())
    except (SafetensorError, OSError):  # loading the weights says what is wrong with them
        return frozenset()


def _why_not(vision: dict[str, Any], text: dict[str, Any], config: dict[str, Any]) -> str | None:
    if not vision or "embed_dim" not in config:
        return "its configuration has no vision_cfg or embed_dim"
    if "timm_model_name" in vision:
        return "its image tower comes from timm, not from open_clip's own VisionTransformer"
    stages = vision.get("layers")
    if isinstance(stages, list | tuple):
        if len(stages) != 4 or not all(isinstance(blocks, int) and blocks > 0 for blocks in stages):
            return "its image tower is neither a ViT nor a ModifiedResNet of four stages"
    elif not isinstance(stages, int) or "patch_size" not in vision:
        return "its image tower is neither a ViT nor a ModifiedResNet"
    if not isinstance(vision.get("image_size", 224), int):
        return "its images are not square"
    if "hf_model_name" in text:
        return "its text tower comes from transformers"
    if config.get("multimodal_cfg"):
        return "it is a CoCa model with a caption decoder"
    if vision.get("pool_type", "tok") != "tok" or vision.get("global_average_pool"):
        return "its image tower does not pool by the class token"
    if vision.get("attentional_pool") or vision.get("no_ln_pre") or vision.get("ls_init_value"):
        return "its image tower has attentional pooling, layer scale or no ln_pre"
    if vision.get("final_ln_after_pool") or vision.get("input_patchnorm") or vision.get("pos_embed_type"):
        return "its image tower normalises or positions tokens in a way that is not CLIP's"
    if text.get("no_causal_mask") or text.get("embed_cls"):
        return "its text tower is bidirectional or appends a class token"
    if text.get("hf_tokenizer_name") or text.get("tokenizer_kwargs"):
        return "its tokenizer is not CLIP's byte-pair encoding"
    if text.get("vocab_size", END_OF_TEXT + 1) <= END_OF_TEXT:
        return "its vocabulary is smaller than that of CLIP's tokenizer"
    pooled_at = text.get("eos_id", 2) if text.get("pool_type") == "eos" else END_OF_TEXT
    if text.get("pool_type", "argmax") not in ("argmax", "eos") or pooled_at != END_OF_TEXT:
        return "its text tower does not pool at the end-of-text token"
    if text.get("proj_bias") or text.get("proj_type", "linear") != "linear" or text.get("ls_init_value"):
        return "its text tower has layer scale or a projection that is not a plain matrix"
    if any(tower.get(key) for tower in (vision, text) for key in CUSTOM_ATTENTION):
        return "its attention is not CLIP's: one of " + ", ".join(CUSTOM_ATTENTION) + " is set"
    if config.get("custom_text") or config.get("init_logit_bias") is not None:
        return "it is a CustomTextCLIP or has a logit bias (SigLIP), which is not CLIP's softmax classifier"
    return None
