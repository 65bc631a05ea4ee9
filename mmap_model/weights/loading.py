"""The weights that a study names, checked: the only way by which weights come into this software.

    kind of file                                  where the activation is told      where it is not told
    --------------------------------------------  --------------------------------  ----------------------
    tag of open_clip                              its registry                      refused: unknown tag
    OpenAI's TorchScript archive                  its integers, its code            as a state dict
    state dict of OpenAI with its integers        the integers: QuickGELU
    state dict, ``{"state_dict": …}``,            a configuration beside the file;  refused for plain names,
    ``{"model": …}``, ``module.`` and others      the name of a release; the study  a warning for -quickgelu
    Hugging Face CLIPModel, folder or file        ``config.json``                   as a state dict
    any of these in a ``local-dir:``              the folder's configuration        refused

float16, bfloat16 and float64 are converted to float32. Refused with the reason: positions for another
resolution or context length, values that are not finite, tensors missing or left over, files that are empty,
cut off, web pages, Git LFS pointers, lists, tensors, or Python objects other than tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmap_model.architecture import Architecture, model_config, model_directory, parse_architecture
from mmap_model.errors import BackboneError
from mmap_model.preprocessing import CLIP_PREPROCESSING, Preprocessing, from_open_clip
from mmap_model.weights.activation import STATED, SUFFIX, ActivationClaim, check_activation, told_by_code
from mmap_model.weights.beside import (
    OPEN_CLIP,
    PREPROCESSOR,
    PublishedModel,
    published_config,
    published_preprocessing,
    release_of,
)
from mmap_model.weights.files import Array, RawWeights, read_weights
from mmap_model.weights.names import NamedWeights, fit, recognise

if TYPE_CHECKING:
    from mmap_model.backbone_spec import BackboneSpec


_PRETRAINED = "backbone.pretrained"
_UNKNOWN_PREPROCESSING = (
    "nothing in or beside {} says how images are resized and normalised: taken as for OpenAI's CLIP. If that "
    f"is wrong, put the {PREPROCESSOR} or {OPEN_CLIP} that was published with it into its folder"
)


@dataclass(frozen=True)
class LoadedWeights:
    """Everything that decides a CLIP's features.

    Attributes:
        config: open_clip's ``model_cfg``.
        architecture: its shape.
        preprocessing: of images.
        tensors: float32 by open_clip's names, all of them.
        warnings: what could not be proven, one sentence each.
    """

    config: Mapping[str, Any]
    architecture: Architecture
    preprocessing: Preprocessing
    tensors: Mapping[str, Array]
    warnings: tuple[str, ...] = ()


def load_weights(spec: BackboneSpec) -> LoadedWeights:
    """Read, convert and check the weights of a backbone; fetches those of a tag if need be.

    Raises:
        BackboneError: unknown model or tag, or weights that cannot be proven to be this model's; with the
            reason and what to change.
    """
    config = model_config(spec.model)
    architecture = parse_architecture(spec.model, config)
    path = spec.weights_file
    return _of_tag(spec, config, architecture) if path is None else _of_file(spec, config, architecture, path)


def _of_tag(spec: BackboneSpec, config: Mapping[str, Any], architecture: Architecture) -> LoadedWeights:
    release = known_tag(spec)
    told = ActivationClaim(
        _activation(release) == "quickgelu", f"so open_clip knows the tag {spec.pretrained}"
    )
    _check(spec, config, [*_stated(spec), told])
    path = _fetch(spec, release)
    named = recognise(read_weights(path, _PRETRAINED), str(path), _PRETRAINED)
    return LoadedWeights(
        config,
        architecture,
        _released_preprocessing(release, architecture, str(spec.pretrained)),
        fit(named, architecture, str(path), _PRETRAINED),
    )


def _of_file(
    spec: BackboneSpec, config: Mapping[str, Any], architecture: Architecture, path: Path
) -> LoadedWeights:
    where = "backbone.model" if spec.in_directory else _PRETRAINED
    raw = read_weights(path, where)
    named = recognise(raw, str(path), where)
    published = published_config(path.parent, named.naming)
    if published is not None:
        _check_shape(architecture, config, published)
    preprocessing = published_preprocessing(path.parent, architecture.image_size, named.naming)
    release = None
    if not spec.in_directory and (published is None or preprocessing is None):
        release = release_of(path)
        if release is not None and spec.activation not in (None, _activation(release)):
            release = None  # a name is a hint: what is stated says that this file is another one
    doubt = _check(spec, config, [*_stated(spec), *_told(raw, named, published, release)])
    doubts = [] if doubt is None else [doubt]
    if preprocessing is None and release is not None:
        preprocessing = _released_preprocessing(release, architecture, path.name)
    if preprocessing is None:
        preprocessing = CLIP_PREPROCESSING
        if not named.integers and not (path.parent / OPEN_CLIP).is_file():
            doubts.append(_UNKNOWN_PREPROCESSING.format(path))
    tensors = fit(named, architecture, str(path), where)
    return LoadedWeights(config, architecture, preprocessing, tensors, tuple(doubts))


def known_tag(spec: BackboneSpec) -> dict[str, Any]:
    """What open_clip knows of a tag. Raises BackboneError for an unknown one."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    assert spec.pretrained is not None
    stem = spec.model.removesuffix(SUFFIX)
    for name in (spec.model, stem, f"{stem}{SUFFIX}"):
        known = get_pretrained_cfg(name, spec.pretrained)
        if known:
            return dict(known)
    tags = ", ".join(list_pretrained_tags_by_model(spec.model))
    raise BackboneError(
        f"{spec.pretrained!r} is neither a file nor a pretrained tag of {spec.model!r}",
        where="backbone.pretrained",
        fix=f"use one of {tags}" if tags else "give the path of a checkpoint file",
    )


def _fetch(spec: BackboneSpec, release: Mapping[str, Any]) -> Path:
    from open_clip import pretrained

    try:
        return Path(pretrained.download_pretrained(dict(release)))
    except (RuntimeError, OSError, ValueError, KeyError, EOFError) as error:
        raise BackboneError(
            f"the weights of {spec.pretrained!r} could not be fetched: "
            f"{' '.join(str(error).splitlines()[:3])[:500]}",
            where="backbone.pretrained",
            fix="run once with a connection (the file is kept in the Hugging Face cache, HF_HOME), or give "
            "backbone.pretrained the path of a checkpoint file copied to this machine",
        ) from error


def _stated(spec: BackboneSpec) -> list[ActivationClaim]:
    return [] if spec.activation is None else [ActivationClaim(spec.activation == "quickgelu", STATED)]


def _told(
    raw: RawWeights, named: NamedWeights, published: PublishedModel | None, known: Mapping[str, Any] | None
) -> list[ActivationClaim]:
    """Everything but the study that says which activation a file's weights were trained with."""
    told = []
    if named.integers:
        told.append(ActivationClaim(True, f"it holds {', '.join(named.integers)}, as only OpenAI's files do"))
    elif (code := told_by_code(raw.code)) is not None:
        told.append(ActivationClaim(code, "its code computes it"))
    if published is not None:
        told.append(ActivationClaim(published.quick_gelu, f"so says {published.file}"))
    if known is not None and published is None:
        told.append(ActivationClaim(_activation(known) == "quickgelu", "a release of that name was"))
    return told


def _activation(release: Mapping[str, Any]) -> str:
    return "quickgelu" if release.get("quick_gelu", False) else "gelu"


def _check(spec: BackboneSpec, config: Mapping[str, Any], told: list[ActivationClaim]) -> str | None:
    return check_activation(
        told,
        model=spec.model,
        quick_gelu=bool(config.get("quick_gelu", False)),
        source=str(spec.pretrained or model_directory(spec.model)),
        named=not spec.in_directory,
        where="backbone.pretrained",
    )


def _check_shape(architecture: Architecture, config: Mapping[str, Any], published: PublishedModel) -> None:
    """What the tensors' shapes do not show, such as heads, must be as published beside them."""
    theirs = asdict(parse_architecture(str(published.file), dict(published.config)))
    ours = asdict(architecture)
    for name in ours.keys() - {"model", "unused_tokens"}:
        if ours[name] != theirs[name]:
            raise BackboneError(
                f"{architecture.model!r} has {name} {ours[name]}, but the weights' {published.file} says "
                f"{theirs[name]}",
                where="backbone.model",
                fix="use the model that the weights are of, or keep them in a folder without that file",
            )
    for tower in ("vision_cfg", "text_cfg"):
        for option in ("norm_kwargs", "act_kwargs"):
            ours_, theirs_ = (c.get(tower, {}).get(option) or {} for c in (config, published.config))
            if ours_ != theirs_:
                raise BackboneError(
                    f"{architecture.model!r} has {tower}.{option} {ours_}, but the weights' {published.file} "
                    f"says {theirs_}",
                    where="backbone.model",
                    fix="give the folder as local-dir: with a configuration that fits",
                )


def _released_preprocessing(
    release: Mapping[str, Any], architecture: Architecture, name: str
) -> Preprocessing:
    told = {key: release.get(key) for key in ("mean", "std", "interpolation", "resize_mode")}
    return from_open_clip(told, architecture.image_size, f"open_clip: {name}")
