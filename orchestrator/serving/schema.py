"""What clients send and get, as JSON; the page of the interface is made of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ImageRequest(_Strict):
    """One image of a request."""

    data: str = Field(description="The image file, base64.")
    name: str = Field("", max_length=1024, description="Comes back with the prediction; opens nothing.")
    task: str | None = Field(None, description="Of this image; else the request's.")


class PredictRequest(_Strict):
    """Images to classify."""

    images: list[ImageRequest] = Field(min_length=1)
    model: str | None = Field(None, description="By name; needed where the server has several.")
    task: str | None = Field(None, description="Of all images that name none.")
    top: int = Field(5, ge=1, description="Labels of each image, at most.")


class Error(BaseModel):
    """What is wrong, and what to do."""

    code: str = Field(description="One word for programs.")
    message: str
    fix: str | None


class ErrorResponse(BaseModel):
    """The body of every response that is none of 2xx."""

    error: Error


class PredictionResponse(BaseModel):
    """What is said of one image; ``label`` is null and ``labels`` is empty where there is an ``error``."""

    name: str
    task: str
    label: str | None
    probability: float | None
    labels: list[str] = Field(description="The most probable first.")
    probabilities: list[float] = Field(description="Of labels; over all classes of the task they sum to 1.")
    error: Error | None


class PredictResponse(BaseModel):
    """Predictions in the order of the images."""

    model: str
    sha256: str = Field(description="Of the artefact.")
    calibrated: bool
    predictions: list[PredictionResponse]


class TaskResponse(BaseModel):
    """A task that a model classifies."""

    name: str
    classes: list[str]
    validation_accuracy: float | None


class ModelResponse(BaseModel):
    """A model that is served."""

    name: str
    kind: str
    tasks: list[TaskResponse]
    image_size: int
    calibrated: bool
    method: str
    backbone: dict[str, Any]
    source: dict[str, Any]
    versions: dict[str, str | None]
    created_at: str
    sha256: str = Field(description="Of artefact.json, which holds those of all files.")
    notes: list[str]


class ModelsResponse(BaseModel):
    """All models, in the order of the command line."""

    models: list[ModelResponse]


MULTIPART = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "task": {
            "type": "array",
            "items": {"type": "string"},
            "description": "One for all images, or one for each in their order.",
        },
        "model": {"type": "string"},
        "top": {"type": "integer", "minimum": 1, "default": 5},
    },
}
"""The same request as a form with files."""
