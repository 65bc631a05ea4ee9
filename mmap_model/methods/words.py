"""Prompts that start at the embeddings of words, and class features averaged over several texts.

Legend: L class lists, C classes (the most of any list), n tokens, D text width, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmap_model.backbone import Backbone
from mmap_model.class_texts import class_text
from mmap_model.errors import BackboneError
from mmap_model.forward import ClassPrompts, encode_classes


@torch.no_grad()
def word_embeddings(backbone: Backbone, words: str, length: int) -> Tensor:
    """Embeddings [n, D] of the first ``length`` tokens of words, without positions.

    Raises:
        BackboneError: the CLIP does not know one of them.
    """
    require_words(backbone, [words], "settings.init_words")
    ids = backbone.tokenize([words])[0, 1 : 1 + length]
    return backbone.clip.token_embedding(ids.to(backbone.device)).clone()  # type: ignore[no-any-return]


@torch.no_grad()
def mean_texts(
    backbone: Backbone,
    lists: Sequence[Sequence[str]],
    templates: Sequence[str],
    *,
    unit: bool,
    where: str | None = None,
) -> Tensor:
    """Class embeddings [L, C, E] averaged over templates, of frozen texts, not normalised afterwards.

    Args:
        backbone: the CLIP.
        lists: class names.
        templates: texts in which ``{}`` stands for the name.
        unit: average normalised embeddings instead of raw ones.
        where: the key that gives the templates; None: their words are not looked at.

    Raises:
        BackboneError: the CLIP does not know a word of a template.
    """
    if where is not None:
        require_words(backbone, [template.replace("{}", "") for template in templates], where)
    total: Tensor | None = None
    once = list(dict.fromkeys(map(tuple, lists)))  # equal lists are encoded once
    for template in templates:
        prompts = ClassPrompts(backbone, classes=once, template=template)
        own = encode_classes(backbone.clip, prompts, ())
        own = F.normalize(own, dim=-1) if unit else own
        total = own if total is None else total + own
    assert total is not None, "there is a template"
    mean = total / len(templates)
    return torch.stack([mean[once.index(tuple(names))] for names in lists])


@torch.no_grad()
def require_words(backbone: Backbone, texts: Sequence[str], where: str) -> None:
    """Raise BackboneError where a reduced CLIP has no embedding of a token: its row is all zero."""
    ids = backbone.tokenize([class_text(text, "") for text in texts]).to(backbone.device)
    known = backbone.clip.token_embedding.weight.abs().amax(1) > 0
    for text, own in zip(texts, ids, strict=True):
        used = own[: int(own.argmax()) + 1]
        if not known[used].all():
            raise BackboneError(
                f"this CLIP was reduced to a vocabulary that lacks words of {text.strip()!r}",
                where=where,
                fix="use words that it knows, such as those of the study's own template, or a whole CLIP",
            )
