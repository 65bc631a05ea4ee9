"""One small CLIP in every kind of file: each is converted exactly, refused, or warned about."""

from __future__ import annotations

import copy
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmap_model.architecture import parse_architecture
from mmap_model.backbone import Backbone, load_backbone
from mmap_model.backbone_identity import fingerprint_of, weight_groups
from mmap_model.backbone_spec import BackboneSpec
from mmap_model.errors import BackboneError
from mmap_model.plain import to_plain
from mmap_model.testing.weight_files import (
    PLAIN,
    QUICK,
    State,
    archive,
    assert_equal,
    folder,
    hugging_face,
    hugging_face_config,
    hugging_face_folder,
    in_precision,
    loaded,
    prefixed,
    refused,
    safe,
    saved,
    state_of,
    with_config_beside,
    with_integers,
    write_json,
)

pytestmark = pytest.mark.usefixtures("originals")

Writer = Callable[[Backbone, Path], Path]

TELLING: dict[str, Writer] = {
    "archive with its code": lambda b, f: archive(b, f / "w.pt", integers=False),
    "open_clip_config.json beside": lambda b, f: with_config_beside(
        b, f, "open_clip_config.json", {"model_cfg": b.config, "preprocess_cfg": {}}
    ),
    "config.json beside": lambda b, f: with_config_beside(b, f, "config.json", hugging_face_config(b)),
    "Hugging Face safetensors": hugging_face_folder,
    "Hugging Face folder": lambda b, f: hugging_face_folder(b, f).parent,
}
"""Files of the model they are written from, which say what it computes."""

OPENAI: dict[str, Writer] = {
    "OpenAI's archive": lambda b, f: archive(b, f / "w.pt", integers=True),
    "OpenAI's state dict": lambda b, f: saved(with_integers(state_of(b)), f / "w.pt"),
    "OpenAI's state dict in safetensors": lambda b, f: safe(with_integers(state_of(b)), f / "w.safetensors"),
    "OpenAI's state dict, plain integers": lambda b, f: saved(
        state_of(b) | {"input_resolution": 16, "context_length": 77, "vocab_size": 49408}, f / "w.pt"
    ),
}
"""Files whose integers say QuickGELU."""

MUTE: dict[str, Writer] = {
    "state dict": lambda b, f: saved(state_of(b), f / "w.pt"),
    "state dict of an old torch": lambda b, f: saved(
        state_of(b), f / "w.pt", _use_new_zipfile_serialization=False
    ),
    "state dict in safetensors": lambda b, f: safe(state_of(b), f / "w.safetensors"),
    "safetensors under another name": lambda b, f: safe(state_of(b), f / "w.pt"),
    "state_dict with module.": lambda b, f: saved(
        {"epoch": 3, "name": "run", "state_dict": prefixed(state_of(b), "module."), "optimizer": {}},
        f / "w.pt",
    ),
    "compiled and distributed": lambda b, f: saved(prefixed(state_of(b), "_orig_mod.module."), f / "w.pt"),
    "model": lambda b, f: saved({"model": state_of(b), "step": torch.tensor(1)}, f / "w.pt"),
    "nested": lambda b, f: saved({"checkpoint": {"model": state_of(b)}}, f / "w.pt"),
    "with the mask": lambda b, f: saved(state_of(b) | {"attn_mask": torch.zeros(77, 77)}, f / "w.pt"),
    "logit scale of one dimension": lambda b, f: saved(
        state_of(b) | {"logit_scale": state_of(b)["logit_scale"][None]}, f / "w.pt"
    ),
    "float64": lambda b, f: saved(in_precision(state_of(b), torch.float64), f / "w.pt"),
    "Hugging Face bin": lambda b, f: saved(hugging_face(state_of(b)), f / "pytorch_model.bin"),
    "Hugging Face with a prefix": lambda b, f: saved(
        prefixed(hugging_face(state_of(b)), "clip."), f / "w.pt"
    ),
}
"""Files that do not say what the model they are of computes."""

HALF: dict[str, tuple[torch.dtype, Writer]] = {
    f"{kind} {suffix}": (kind, write)
    for kind in (torch.float16, torch.bfloat16)
    for suffix, write in {
        "pt": lambda b, f, kind=kind: saved(in_precision(state_of(b), kind), f / "w.pt"),
        "safetensors": lambda b, f, kind=kind: safe(in_precision(state_of(b), kind), f / "w.safetensors"),
        "Hugging Face": lambda b, f, kind=kind: safe(
            in_precision(hugging_face(state_of(b)), kind) | {}, f / "model.safetensors"
        ),
    }.items()
}


@pytest.mark.parametrize("model", [PLAIN, QUICK])
@pytest.mark.parametrize("kind", TELLING)
def test_files_that_tell_their_activation_are_converted_or_refused(
    originals: dict[str, Backbone], tmp_path: Path, kind: str, model: str
) -> None:
    path = TELLING[kind](originals[model], folder(tmp_path))
    backbone, warned = loaded(BackboneSpec(model, str(path)))
    assert_equal(backbone, originals[model])
    assert "activation" not in warned
    other = {PLAIN: QUICK, QUICK: PLAIN}[model]
    assert f"use {model}" in refused(BackboneSpec(other, str(path)))
    stated = BackboneSpec(model, str(path), activation="gelu" if model == QUICK else "quickgelu")
    assert "backbone.activation" in refused(stated), "a statement that the file contradicts"


@pytest.mark.parametrize("kind", OPENAI)
def test_openais_own_files_are_quickgelu(originals: dict[str, Backbone], tmp_path: Path, kind: str) -> None:
    path = OPENAI[kind](originals[QUICK], folder(tmp_path))
    backbone, warned = loaded(BackboneSpec(QUICK, str(path)))
    assert_equal(backbone, originals[QUICK])
    assert not warned
    assert f"use {QUICK}" in refused(BackboneSpec(PLAIN, str(path)))


@pytest.mark.parametrize("kind", MUTE)
def test_files_that_do_not_tell_are_never_loaded_silently(
    originals: dict[str, Backbone], tmp_path: Path, kind: str
) -> None:
    path = MUTE[kind](originals[QUICK], folder(tmp_path))
    backbone, warned = loaded(BackboneSpec(QUICK, str(path)))
    assert_equal(backbone, originals[QUICK])
    assert "backbone.activation: quickgelu" in warned
    assert "add backbone.activation: gelu" in refused(BackboneSpec(PLAIN, str(path)))
    for model, activation in ((PLAIN, "gelu"), (QUICK, "quickgelu")):
        stated, warned = loaded(BackboneSpec(model, str(path), activation=activation))  # type: ignore[arg-type]
        assert_equal(stated, originals[model])
        assert "activation" not in warned and "normalised" in warned
    assert f"use {QUICK}" in refused(BackboneSpec(PLAIN, str(path), activation="quickgelu"))


@pytest.mark.parametrize("kind", HALF)
def test_half_precision_is_read_exactly(originals: dict[str, Backbone], tmp_path: Path, kind: str) -> None:
    precision, write = HALF[kind]
    original = originals[PLAIN]
    rounded = Backbone(copy.deepcopy(original.clip), original.architecture, original.config)
    with torch.no_grad():
        for parameter in rounded.clip.parameters():
            parameter.copy_(parameter.to(precision).float())
    path = write(originals[PLAIN], folder(tmp_path))
    backbone, _ = loaded(BackboneSpec(PLAIN, str(path), activation="gelu"))
    assert_equal(backbone, rounded)
    assert backbone.dtype == torch.float32


@pytest.mark.parametrize("model", [PLAIN, QUICK])
@pytest.mark.parametrize("kind", [*TELLING, *OPENAI, *MUTE])
def test_any_kind_may_lie_in_a_local_dir(
    originals: dict[str, Backbone], tmp_path: Path, kind: str, model: str
) -> None:
    place = folder(tmp_path)
    (TELLING | OPENAI | MUTE)[kind](originals[model], place)
    config = {"model_cfg": originals[model].config, "preprocess_cfg": {}}
    write_json(place / "open_clip_config.json", config)
    spec = BackboneSpec(f"local-dir:{place}")
    if kind in OPENAI and model == PLAIN:
        assert "quick_gelu: true" in refused(spec)
        return
    backbone, warned = loaded(spec)
    assert_equal(backbone, originals[model])
    assert not warned


@pytest.mark.parametrize("model", [PLAIN, QUICK])
@pytest.mark.parametrize("shards", [1, 2])
def test_a_folder_of_hugging_face_is_a_local_dir(
    originals: dict[str, Backbone], tmp_path: Path, model: str, shards: int
) -> None:
    place = folder(tmp_path)
    path = hugging_face_folder(originals[model], place)
    if shards == 2:
        state = hugging_face(state_of(originals[model]))
        path.unlink()
        names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
        places = {name: names[i % 2] for i, name in enumerate(state)}
        for file in names:
            safe({name: state[name] for name in state if places[name] == file}, place / file)
        write_json(place / "model.safetensors.index.json", {"weight_map": places})
    backbone, warned = loaded(BackboneSpec(f"local-dir:{place}"))
    assert_equal(backbone, originals[model])
    assert not warned
    if shards == 2:
        (place / names[1]).unlink()
        assert "does not exist" in refused(BackboneSpec(f"local-dir:{place}"))


def spoiled(state: State, name: str, value: float) -> State:
    state[name].view(-1)[1] = value
    return state


def resized(state: State, name: str, rows: int) -> State:
    return state | {name: torch.randn(rows, state[name].shape[1])}


def cut(path: Path, share: float = 0.6) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class Stranger:
    """What a pickle may hold besides tensors."""


BROKEN: dict[str, tuple[str, Writer]] = {
    "NaN": (
        "ln_final.weight in .* NaN",
        lambda b, f: saved(spoiled(state_of(b), "ln_final.weight", float("nan")), f / "w.pt"),
    ),
    "infinite": (
        "visual.proj in .* infinite",
        lambda b, f: safe(spoiled(state_of(b), "visual.proj", float("inf")), f / "w.safetensors"),
    ),
    "infinite by fp16": (
        "text_projection in .* infinite",
        lambda b, f: saved(
            in_precision(spoiled(state_of(b), "text_projection", 1e6), torch.float16), f / "w.pt"
        ),
    ),
    "positions of 20 px": (
        "images of 20 pixels, the model takes 16; they are not interpolated",
        lambda b, f: saved(resized(state_of(b), "visual.positional_embedding", 26), f / "w.pt"),
    ),
    "positions of 20 px, Hugging Face": (
        "images of 20 pixels",
        lambda b, f: safe(
            hugging_face(resized(state_of(b), "visual.positional_embedding", 26)), f / "w.safetensors"
        ),
    ),
    "32 tokens": (
        "texts of 32 tokens, the model takes 77",
        lambda b, f: saved(resized(state_of(b), "positional_embedding", 32), f / "w.pt"),
    ),
    "another vocabulary": (
        "token_embedding.weight",
        lambda b, f: saved(resized(state_of(b), "token_embedding.weight", 49409), f / "w.pt"),
    ),
    "integers of another model": (
        "input_resolution is 224",
        lambda b, f: saved(with_integers(state_of(b)) | {"input_resolution": torch.tensor(224)}, f / "w.pt"),
    ),
    "a tensor missing": (
        "lacks logit_scale",
        lambda b, f: saved({n: t for n, t in state_of(b).items() if n != "logit_scale"}, f / "w.pt"),
    ),
    "a tensor too many": (
        "holds also decoder.weight",
        lambda b, f: saved(state_of(b) | {"decoder.weight": torch.ones(2)}, f / "w.pt"),
    ),
    "keys only": (
        "lacks .*in_proj_weight",
        lambda b, f: saved(
            {n: t for n, t in hugging_face(state_of(b)).items() if "q_proj" not in n}, f / "w.pt"
        ),
    ),
    "image tower only": (
        "only the image tower",
        lambda b, f: saved({"vision_model.post_layernorm.weight": torch.ones(3)}, f / "w.pt"),
    ),
    "two sets": (
        "several sets of weights: 'state_dict', 'state_dict_ema'",
        lambda b, f: saved({"state_dict": state_of(b), "state_dict_ema": state_of(b)}, f / "w.pt"),
    ),
    "a prefix on some": (
        "holds also",
        lambda b, f: saved(prefixed(state_of(b), "module.") | {"loss.bias": torch.ones(1)}, f / "w.pt"),
    ),
    "integers for weights": (
        "not of floating point numbers",
        lambda b, f: saved(in_precision(state_of(b), torch.int8), f / "w.pt"),
    ),
    "no tensors": ("it is empty", lambda b, f: saved({}, f / "w.pt")),
    "empty": (r"is empty \(0 bytes\)", lambda b, f: written(f / "w.pt", b"")),
    "empty safetensors": (r"is empty \(0 bytes\)", lambda b, f: written(f / "w.safetensors", b"")),
    "HTML": ("web page", lambda b, f: written(f / "w.pt", b"\n<!DOCTYPE html><html>Sign in</html>")),
    "HTML in safetensors": ("web page", lambda b, f: written(f / "w.safetensors", b"<html></html>")),
    "text": ("is text.*'Not Found'", lambda b, f: written(f / "w.pt", b"Not Found")),
    "LFS pointer": (
        "git lfs pull",
        lambda b, f: written(
            f / "w.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n"
        ),
    ),
    "archive cut off": ("cut off", lambda b, f: cut(saved(state_of(b), f / "w.pt"))),
    "old checkpoint cut off": (
        "cut off",
        lambda b, f: cut(saved(state_of(b), f / "w.pt", _use_new_zipfile_serialization=False)),
    ),
    "old checkpoint cut off early": (
        "cut off",
        lambda b, f: cut(saved(state_of(b), f / "w.pt", _use_new_zipfile_serialization=False), 0.00001),
    ),
    "safetensors cut off": ("cut off", lambda b, f: cut(safe(state_of(b), f / "w.safetensors"))),
    "safetensors cut off early": (
        "cut off",
        lambda b, f: cut(safe(state_of(b), f / "w.safetensors"), 0.0001),
    ),
    "TorchScript cut off": ("cut off", lambda b, f: cut(archive(b, f / "w.pt", integers=True))),
    "list": ("holds a list", lambda b, f: saved(list(state_of(b).values()), f / "w.pt")),
    "tensor": ("holds a tensor", lambda b, f: saved(torch.ones(3), f / "w.pt")),
    "objects": ("Python objects .*Stranger", lambda b, f: saved({"a": Stranger()}, f / "w.pt")),
    "whole model": ("Python objects", lambda b, f: saved(b.clip, f / "w.pt")),
    "plain pickle": (
        "Python objects|cut off",
        lambda b, f: written(f / "w.pt", pickle.dumps({"a": Stranger()})),
    ),
    "NumPy": ("NumPy", lambda b, f: written(f / "w.pt", b"\x93NUMPY\x01\x00")),
    "gzip": ("gzip", lambda b, f: written(f / "w.pt", b"\x1f\x8b\x08\x00")),
    "noise": ("not a file of weights", lambda b, f: written(f / "w.pt", bytes(range(128, 256)))),
}


@pytest.mark.parametrize("model", [PLAIN, QUICK])
@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_such_clip_is_refused_with_the_reason(
    originals: dict[str, Backbone], tmp_path: Path, kind: str, model: str
) -> None:
    reason, write = BROKEN[kind]
    path = write(originals[model], folder(tmp_path))
    activation: Any = "quickgelu" if model == QUICK else "gelu"
    if kind == "integers of another model" and model == PLAIN:
        reason = f"use {QUICK}"
    said = refused(BackboneSpec(model, str(path), activation=activation))
    assert re.search(reason, said), said
    assert str(path) in said or kind == "integers of another model"


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    assert "zip archive without weights" in refused(BackboneSpec(PLAIN, str(path)))


def test_several_files_of_weights_in_a_folder_are_refused(
    originals: dict[str, Backbone], tmp_path: Path
) -> None:
    place = folder(tmp_path)
    write_json(place / "open_clip_config.json", {"model_cfg": originals[PLAIN].config})
    saved(state_of(originals[PLAIN]), place / "epoch_1.pt")
    saved(state_of(originals[PLAIN]), place / "epoch_2.pt")
    assert "epoch_1.pt, epoch_2.pt" in refused(BackboneSpec(f"local-dir:{place}"))


def test_a_remembered_fingerprint_follows_what_lies_beside_the_weights(
    originals: dict[str, Backbone], tmp_path: Path
) -> None:
    place = folder(tmp_path)
    saved(state_of(originals[PLAIN]), place / "w.pt")
    spec = BackboneSpec(f"local-dir:{place}")
    found = []
    for model, std in ((PLAIN, 0.5), (QUICK, 0.5), (PLAIN, 0.25)):
        content = {"model_cfg": originals[model].config, "preprocess_cfg": {"std": [std] * 3}}
        write_json(place / "open_clip_config.json", content)
        found.append(fingerprint_of(spec))
        assert found[-1] == load_backbone(spec).fingerprint
    assert len(set(found)) == 3


def test_weights_replaced_by_a_file_of_the_same_size_and_date_have_their_own_fingerprint(
    originals: dict[str, Backbone], tmp_path: Path
) -> None:
    place = folder(tmp_path)
    write_json(place / "open_clip_config.json", {"model_cfg": originals[PLAIN].config})
    state = state_of(originals[PLAIN])
    saved(state, place / "w.pt")
    spec = BackboneSpec(f"local-dir:{place}")
    first, date = fingerprint_of(spec), (place / "w.pt").stat()
    other = saved({**state, "visual.proj": state["visual.proj"] + 0.01}, tmp_path / "w.pt")
    assert other.stat().st_size == date.st_size
    os.utime(other, ns=(date.st_atime_ns, date.st_mtime_ns))
    other.replace(place / "w.pt")
    assert fingerprint_of(spec) != first
    assert fingerprint_of(spec) == load_backbone(spec).fingerprint


@pytest.mark.parametrize(("save", "name"), [(saved, "w.pt"), (safe, "open_clip_model.safetensors")])
def test_where_two_backbones_differ_is_told_by_groups_of_tensors(
    originals: dict[str, Backbone], tmp_path: Path, save: Callable[[State, Path], Path], name: str
) -> None:
    place = folder(tmp_path)
    spec = BackboneSpec(f"local-dir:{place}")
    state = state_of(originals[PLAIN])

    def groups(changed: str | None = None, **config: Any) -> dict[str, str]:
        write_json(place / "open_clip_config.json", {"model_cfg": originals[PLAIN].config, **config})
        save({**state, changed: state[changed] + 0.01} if changed else state, place / name)
        return weight_groups(spec)

    before = groups()
    for changed, group in (
        ("visual.proj", "image embeddings or projection"),
        ("visual.transformer.resblocks.0.ln_1.weight", "image blocks"),
        ("transformer.resblocks.0.ln_1.weight", "text blocks"),
        ("token_embedding.weight", "text embeddings or projection"),
        ("logit_scale", "logit_scale"),
    ):
        now = groups(changed)
        assert [part for part in before if now[part] != before[part]] == [group]
    now = groups(preprocess_cfg={"std": [0.5] * 3})
    assert [part for part in before if now[part] != before[part]] == ["preprocessing"]


def test_every_parameter_of_the_architecture_has_its_shape(originals: dict[str, Backbone]) -> None:
    backbone = originals[PLAIN]
    shapes = {name: tuple(p.shape) for name, p in backbone.clip.named_parameters()}
    assert parse_architecture("random", backbone.config).shapes == shapes


def test_the_statement_is_absent_from_records_until_it_is_made() -> None:
    assert to_plain(BackboneSpec()) == {"model": "symbols", "pretrained": None}
    assert to_plain(BackboneSpec(PLAIN, "w.pt", activation="gelu"))["activation"] == "gelu"


def test_the_statement_is_one_of_two() -> None:
    with pytest.raises(BackboneError, match="gelu or quickgelu"):
        BackboneSpec(PLAIN, "w.pt", activation="relu")  # type: ignore[arg-type]
