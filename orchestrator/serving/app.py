"""The application: what a server answers."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import torch
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from orchestrator.serving.admission import Admission
from orchestrator.serving.batching import Batcher
from orchestrator.serving.bodies import (
    JSON,
    MULTIPART,
    ClassifyRequest,
    SentImage,
    from_json,
    from_multipart,
    media_type,
)
from orchestrator.serving.gate import EXCHANGE, HEALTH, Gate
from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.metrics import CONTENT_TYPE, Metrics
from orchestrator.serving.models import Model, Models
from orchestrator.serving.pictures import Pictures
from orchestrator.serving.refusal import Refusal
from orchestrator.serving.schema import (
    MULTIPART as MULTIPART_SCHEMA,
)
from orchestrator.serving.schema import (
    Error,
    ErrorResponse,
    ModelsResponse,
    PredictionResponse,
    PredictRequest,
    PredictResponse,
)

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in (
        (400, "The body is malformed, or no image can be decoded."),
        (401, "The token is missing or wrong."),
        (408, "The body arrives too slowly."),
        (413, "Too many bytes, images, or pixels of an image."),
        (415, "Neither JSON nor a form with files."),
        (422, "No such model, task or field."),
        (429, "Too much waits already; see Retry-After."),
        (503, "The server is stopping; see Retry-After."),
    )
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")},
            MULTIPART: {"schema": MULTIPART_SCHEMA},
        },
    }
}


class Service:
    """Classifies the images of requests; started and stopped with the application."""

    def __init__(self, models: Models, limits: RequestLimits) -> None:
        self.models, self.limits = models, limits
        self.admission = Admission(limits)
        self.metrics = Metrics(self.admission)
        self._pictures = Pictures(limits.pixels)
        self._batchers: dict[str, Batcher] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """One thread computes all forwards: two at a time would only share the device."""
        with ThreadPoolExecutor(1, thread_name_prefix="forward") as thread:
            for model in self.models:
                self._batchers[model.name] = Batcher(
                    model.classifier,
                    thread,
                    most=self.limits.batch,
                    wait=self.limits.wait,
                    seen=partial(self._seen, model.name),
                )
            await asyncio.get_running_loop().run_in_executor(thread, self._warm_up)
            tasks = [asyncio.create_task(batcher.run()) for batcher in self._batchers.values()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._pictures.close()

    async def asked(self, request: Request) -> ClassifyRequest:
        """What a request asks for. Raises Refusal."""
        if media_type(request.headers) == MULTIPART:
            return await from_multipart(request.headers, request.stream(), self.limits)
        body = b"".join([chunk async for chunk in request.stream()])
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pictures.threads, from_json, body, self.limits)

    async def predict(self, model: Model, asked: ClassifyRequest) -> list[PredictionResponse]:
        """A prediction of each image, or an error in its place.

        Raises:
            Refusal: 422 no such task, 429 no room; or, of no image at all, why.
        """
        tasks = [model.task(image.task) for image in asked.images]
        with self.admission.admit(len(tasks)):
            found = await asyncio.gather(
                *(
                    self._predict(model, image, task, asked.top, f"image {number}")
                    for number, (image, task) in enumerate(zip(asked.images, tasks, strict=True))
                ),
                return_exceptions=True,
            )
        refusals = [answer for answer in found if isinstance(answer, Refusal)]
        answers = []
        for image, task, answer in zip(asked.images, tasks, found, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, Refusal):
                raise answer
            outcome = answer.code if isinstance(answer, Refusal) else "ok"
            self.metrics.images.labels(model.name, outcome).inc()
            name = model.classifier.tasks[task]
            answers.append(_failed(image, name, answer) if isinstance(answer, Refusal) else answer)
        if len(refusals) == len(found):
            raise _all_failed(refusals)
        return answers

    async def _predict(
        self, model: Model, image: SentImage, task: int, top: int, place: str
    ) -> PredictionResponse:
        pixels = await self._pictures.pixels(model.classifier, image.encoded, image.name or place)
        ranked = await self._batchers[model.name].rank(pixels, task, top)
        classes = model.classifier.classes(task)
        labels = [classes[place] for place in ranked.classes]
        return PredictionResponse(
            name=image.name,
            task=model.classifier.tasks[task],
            label=labels[0],
            probability=ranked.probabilities[0],
            labels=labels,
            probabilities=list(ranked.probabilities),
            error=None,
        )

    def _warm_up(self) -> None:
        """The first forward takes several times as long as those after it."""
        for model in self.models:
            side = model.classifier.image_size
            model.classifier.logits(torch.zeros(1, 3, side, side, dtype=torch.uint8), 0)

    def _seen(self, model: str, images: int, seconds: float) -> None:
        self.metrics.batches.labels(model).observe(images)
        self.metrics.forwards.labels(model).observe(seconds)


def make_app(service: Service, token: str | None = None, *, local: bool = False) -> Gate:
    """The ASGI application of a service.

    Args:
        service: of the models.
        token: that clients send as ``Authorization: Bearer``; None: everybody may ask.
        local: it is reached from this machine alone; without a token, web pages are kept out then.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    protected = [] if token is None else [Depends(HTTPBearer(auto_error=False))]
    api = FastAPI(
        title="orchestrator serve",
        summary="Classifies images of several tasks.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        exception_handlers={
            Refusal: _refused,
            HTTPException: _no_such_page,
            ClientDisconnect: _gone,
            Exception: _failure,
        },
    )

    @api.post(
        "/v1/predict",
        response_model=PredictResponse,
        responses=_ERRORS,
        openapi_extra=_BODY,
        dependencies=protected,
        summary="Classify images",
    )
    async def predict(request: Request) -> Response:
        asked = await service.asked(request)
        model = service.models.find(asked.model)
        notes = request.scope[EXCHANGE].notes
        notes.update(model=model.name, images=len(asked.images))
        predictions = await service.predict(model, asked)
        answer = PredictResponse(
            model=model.name,
            sha256=model.sha256,
            calibrated=model.classifier.calibrated,
            predictions=predictions,
        )
        return Response(answer.model_dump_json(), media_type=JSON)

    @api.get("/v1/models", responses={401: _ERRORS[401]}, dependencies=protected, summary="List models")
    async def models() -> ModelsResponse:
        return ModelsResponse(models=[model.described() for model in service.models])

    @api.get(HEALTH, summary="Say whether requests are taken")
    async def healthz() -> Response:
        draining = service.admission.draining
        return JSONResponse({"status": "stopping" if draining else "ok"}, 503 if draining else 200)

    @api.get("/metrics", dependencies=protected, summary="Prometheus's text format")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return Gate(api, service.admission, service.metrics, token, local=local)


def _failed(image: SentImage, task: str, refusal: Refusal) -> PredictionResponse:
    return PredictionResponse(
        name=image.name,
        task=task,
        label=None,
        probability=None,
        labels=[],
        probabilities=[],
        error=Error(**refusal.error),
    )


def _all_failed(refusals: Sequence[Refusal]) -> Refusal:
    """Of a request none of whose images can be classified: the first, unless others have other reasons."""
    first = refusals[0]
    if len(refusals) == 1:
        return first
    same = all(refusal.status == first.status for refusal in refusals)
    return Refusal(
        first.status if same else HTTPStatus.BAD_REQUEST,
        first.code if same else "undecodable_image",
        f"none of {len(refusals)} images can be classified; the first: {first.message}",
        first.fix,
    )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    # What was read of the body goes now: its sender may take seconds to push the rest.
    traceback.clear_frames(error.__traceback__)
    return Response(error.body(), int(error.status), error.headers, JSON)


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fix = "see /docs"
    refusal = Refusal(HTTPStatus(error.status_code), "no_such_page", str(error.detail), fix, error.headers)
    return await _refused(request, refusal)


async def _gone(_: Request, error: Exception) -> Response:
    """Nobody reads it; 499 is what servers write into their logs of clients that left."""
    return Response(status_code=499)


async def _failure(request: Request, error: Exception) -> Response:
    refusal = Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        f"the server failed: {type(error).__name__}",
        "its log says more",
    )
    return await _refused(request, refusal)
