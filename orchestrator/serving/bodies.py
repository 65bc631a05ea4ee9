"""From the body of a request to what it asks for. Names of files are text here: nothing is opened by them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import ValidationError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.refusal import Refusal, too_large, unknown
from orchestrator.serving.schema import PredictRequest

JSON, MULTIPART = "application/json", "multipart/form-data"
FIELDS = ("image", "task", "model", "top")

_FIELD_BYTES = 4096
_SPARE_COMMAS = 4096


@dataclass(frozen=True, kw_only=True)
class SentImage:
    """One image as it came: ``encoded`` is None if its base64 is damaged, ``task`` None if it names none."""

    name: str
    encoded: bytes | None
    task: str | None


@dataclass(frozen=True, kw_only=True)
class ClassifyRequest:
    """What a request asks for: at least one image; ``model`` is None if it names none."""

    images: Sequence[SentImage]
    model: str | None
    top: int


def media_type(headers: Headers) -> str:
    """What the body is. Raises Refusal (415) unless it is read here."""
    found = headers.get("content-type", "").partition(";")[0].strip().lower()
    if found not in (JSON, MULTIPART):
        raise _unsupported(f"the content type is {found or 'not given'}", f"send {JSON} or {MULTIPART}")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise _unsupported(f"the body is encoded as {coding}", "send it as it is")
    return found


def from_json(body: bytes, limits: RequestLimits) -> ClassifyRequest:
    """What a JSON body asks for. Takes as long as its base64: not for an event loop.

    Raises:
        Refusal: 400 no JSON, 413 too many images, 422 not of the documented form.
    """
    # Each value of JSON takes a hundred bytes of memory; base64 has no commas, so few are many images.
    if body.count(b",") > 8 * limits.images + _SPARE_COMMAS:
        raise _too_many_images(limits)
    try:
        request = PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from None
    if len(request.images) > limits.images:
        raise _too_many_images(limits)
    images = [
        SentImage(name=image.name, encoded=_decoded(image.data), task=image.task or request.task)
        for image in request.images
    ]
    return ClassifyRequest(images=images, model=request.model, top=request.top)


async def from_multipart(
    headers: Headers, body: AsyncGenerator[bytes, None], limits: RequestLimits
) -> ClassifyRequest:
    """What a form with files asks for.

    Raises:
        Refusal: 400 no such form, 413 too many images or too long a field, 422 fields that do not fit.
    """
    form = await _form(headers, body, limits)
    for name in form:
        if name not in FIELDS:
            raise unknown("unknown_field", f"there is no field {name!r}", f"use {', '.join(FIELDS)}")
    files = [part for part in form.getlist("image") if isinstance(part, UploadFile)]
    if not files:
        raise unknown("no_images", "the form has no file", "send images as files in the field image")
    tasks = _texts(form, "task")
    if len(tasks) > 1 and len(tasks) != len(files):
        raise unknown(
            "wrong_tasks",
            f"there are {len(tasks)} tasks for {len(files)} images",
            "send one task for all images, or one for each in their order",
        )
    each = tasks if len(tasks) > 1 else [*(tasks or [None])] * len(files)
    images = [
        SentImage(name=file.filename or "", encoded=await file.read(), task=task or None)
        for file, task in zip(files, each, strict=True)
    ]
    return ClassifyRequest(images=images, model=_one(form, "model"), top=_top(_one(form, "top")))


class _Parser(MultiPartParser):
    """Files stay in memory, which the limits bound; none is written to disk."""

    spool_max_size = 2**62

    @property
    def too_many(self) -> bool:
        return self._current_files > self.max_files


async def _form(headers: Headers, body: AsyncGenerator[bytes, None], limits: RequestLimits) -> FormData:
    parser = _Parser(
        headers, body, max_files=limits.images, max_fields=limits.images + 8, max_part_size=_FIELD_BYTES
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        if parser.too_many:
            raise _too_many_images(limits) from None
        raise _malformed(error.message) from None


def _texts(form: FormData, name: str) -> list[str | None]:
    texts = form.getlist(name)
    if not all(isinstance(text, str) for text in texts):
        raise unknown("wrong_field", f"{name} is a file", f"send {name} as text")
    return [str(text) for text in texts]


def _one(form: FormData, name: str) -> str | None:
    texts = _texts(form, name)
    if len(texts) > 1:
        raise unknown("wrong_field", f"{name} is given {len(texts)} times", "give it once")
    return texts[0] or None if texts else None


def _top(text: str | None) -> int:
    if text is None:
        return 5
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1):
        raise unknown("wrong_field", f"top is {text!r}", "use a whole number from 1")
    return int(text)


def _decoded(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def _invalid(error: ValidationError) -> Refusal:
    """The first thing that is wrong. No input is repeated: it may be long."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return _malformed(first["msg"])
    place = ".".join(map(str, first["loc"])) or "the body"
    return unknown("wrong_field", f"{place}: {first['msg']}", "see the schema in /openapi.json")


def _malformed(message: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "malformed_body", message, "see the examples of the documentation")


def _too_many_images(limits: RequestLimits) -> Refusal:
    return too_large(
        f"a request may have {limits.images} images", "send several requests", code="too_many_images"
    )


def _unsupported(message: str, fix: str) -> Refusal:
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_content", message, fix)
