"""A CLIP in every kind of file that its weights may come in, and what must hold of it when it is read."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmap_model.backbone import Backbone, load_backbone
from mmap_model.backbone_identity import fingerprint_of
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.errors import BackboneError, BackboneWarning

State = dict[str, Any]

PLAIN, QUICK = "Tiny", "Tiny-quickgelu"
"""Names of two models with the same weights that compute GELU and QuickGELU."""


def folder(tmp_path: Path) -> Path:
    """Make the folder that weights are written to."""
    path = tmp_path / "weights"
    path.mkdir()
    return path


def state_of(backbone: Backbone) -> State:
    return {name: tensor.clone() for name, tensor in backbone.clip.state_dict().items()}


def with_integers(state: State) -> State:
    told = {"input_resolution": 16, "context_length": 77, "vocab_size": 49408}
    return state | {name: torch.tensor(value) for name, value in told.items()}


def hugging_face(state: State) -> State:
    """The names and shapes of transformers' CLIPModel."""
    towers = {"visual.transformer.resblocks.": "vision_model", "transformer.resblocks.": "text_model"}
    modules = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    plain = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "logit_scale": "logit_scale",
    }
    norms = {
        "ln_final": "text_model.final_layer_norm",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
    }
    found: State = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    for name, tensor in state.items():
        tower = next((t for t in towers if name.startswith(t)), None)
        if name in ("visual.proj", "text_projection"):
            found[{"visual.proj": "visual_projection"}.get(name, name) + ".weight"] = tensor.T.contiguous()
        elif name in plain:
            found[plain[name]] = tensor
        elif tower is None:
            module, leaf = name.rsplit(".", 1)
            found[f"{norms[module]}.{leaf}"] = tensor
        else:
            layer, module = name.removeprefix(tower).split(".", 1)
            place = f"{towers[tower]}.encoder.layers.{layer}"
            if module.startswith("attn.in_proj_"):
                leaf = module.removeprefix("attn.in_proj_")
                for part, own in zip("qkv", tensor.chunk(3), strict=True):
                    found[f"{place}.self_attn.{part}_proj.{leaf}"] = own.contiguous()
            else:
                module, leaf = module.rsplit(".", 1)
                found[f"{place}.{modules[module]}.{leaf}"] = tensor
    return found


def hugging_face_config(backbone: Backbone) -> dict[str, Any]:
    shape = backbone.architecture
    act = {"hidden_act": "quick_gelu" if backbone.config["quick_gelu"] else "gelu"}

    def tower(of: Any) -> dict[str, Any]:
        return {
            "hidden_size": of.width,
            "intermediate_size": of.hidden,
            "num_hidden_layers": of.layers,
            "num_attention_heads": of.heads,
        }

    return {
        "model_type": "clip",
        "projection_dim": shape.embed_dim,
        "text_config": tower(shape.text) | act | {"eos_token_id": 2},
        "vision_config": tower(shape.image)
        | act
        | {"image_size": shape.image_size, "patch_size": shape.patch_size},
    }


def preprocessor_config(backbone: Backbone) -> dict[str, Any]:
    side = backbone.image_size
    return {
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "resample": 3,
        "image_mean": list(backbone.image_mean),
        "image_std": list(backbone.image_std),
    }


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def archive(backbone: Backbone, path: Path, integers: bool) -> Path:
    """As OpenAI published CLIP: TorchScript in half precision; here in single, which no processor lacks."""
    clip = copy.deepcopy(backbone.clip)
    if integers:
        for name, tensor in with_integers({}).items():
            vars(clip).pop(name, None)
            clip.register_buffer(name, tensor)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        pixels, tokens = torch.randn(1, 3, 16, 16), torch.full((1, 77), 49407)
        torch.jit.trace(clip, (pixels, tokens), check_trace=False).save(str(path))
    return path


def saved(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def safe(state: State, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def in_precision(state: State, kind: torch.dtype) -> State:
    return {name: tensor.to(kind) for name, tensor in state.items()}


def with_config_beside(original: Backbone, path: Path, name: str, content: dict[str, Any]) -> Path:
    write_json(path / name, content)
    return saved(state_of(original), path / "w.pt")


def hugging_face_folder(original: Backbone, folder: Path) -> Path:
    write_json(folder / "config.json", hugging_face_config(original))
    write_json(folder / "preprocessor_config.json", preprocessor_config(original))
    return safe(hugging_face(state_of(original)), folder / "model.safetensors")


def loaded(spec: BackboneSpec) -> tuple[Backbone, str]:
    """The backbone, and what was warned of its weights; the fingerprint says the same beforehand, twice."""

    def warned_by(call: Callable[[BackboneSpec], Any]) -> tuple[Any, str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = call(spec)
        return result, "\n".join(str(w.message) for w in caught if w.category is BackboneWarning)

    before, warned = warned_by(fingerprint_of)
    backbone, again = warned_by(load_backbone)
    assert again == warned
    assert warned_by(fingerprint_of) == (before, warned), "also where it is remembered"
    assert before == backbone.fingerprint
    return backbone, warned


def refused(spec: BackboneSpec) -> str:
    """Why, the same from loading as from the fingerprint alone."""
    said = []
    for call in (fingerprint_of, load_backbone):
        try:
            call(spec)
        except BackboneError as error:
            assert error.fix and error.where
            assert "weights_only" not in str(error), "no message says to run a stranger's pickle"
            said.append(str(error))
    assert len(said) == 2 and said[0] == said[1], f"{spec} is refused: {said}"
    return said[0]


def features(backbone: Backbone) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 16, 16, generator=generator)
    with torch.no_grad():
        images = backbone.clip.encode_image(pixels)
        return images, backbone.clip.encode_text(backbone.tokenize(["a photo of a dog.", "a cat"]))


def assert_equal(backbone: Backbone, original: Backbone) -> None:
    assert backbone.fingerprint == original.fingerprint
    for ours, theirs in zip(features(backbone), features(original), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
