"""What an answer of a tracking server means for the operation that got it."""

from __future__ import annotations

import enum
import re

from mlflow.exceptions import MlflowException, RestException

REFUSALS = (
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_STATE",
    "NOT_FOUND",
)
"""MLflow's codes for what a later attempt will meet again."""

AWAY = ("401", "403", "404", "407", "408", "425", "429", "502", "503", "504")
"""Statuses of a server that is not there for anybody, whoever answers in its place."""


class Answer(enum.Enum):
    """``REFUSED`` by MLflow itself; ``ODD``: an error of somebody before it, in no form of MLflow's;
    ``TROUBLE``: the server failed, perhaps at this operation alone; ``AWAY``: nobody is served now."""

    REFUSED = enum.auto()
    ODD = enum.auto()
    TROUBLE = enum.auto()
    AWAY = enum.auto()


def kind_of(error: MlflowException) -> Answer:
    """What kind of answer ``error`` stands for."""
    if isinstance(error, RestException):
        if error.json.get("error_code") in REFUSALS:
            return Answer.REFUSED
        return Answer.TROUBLE if error.error_code == "INTERNAL_ERROR" else Answer.AWAY
    text = str(error)
    if status := re.search(r"failed with error code (\d{3})", text):
        if status[1] in AWAY:
            return Answer.AWAY
        return Answer.ODD if status[1].startswith("4") else Answer.TROUBLE
    if text.startswith("API request to "):  # no answer, or one that the client gave up on
        return Answer.TROUBLE if re.search(r"too many 500 error responses", text) else Answer.AWAY
    if error.error_code in REFUSALS:
        return Answer.REFUSED
    return Answer.TROUBLE if error.error_code == "INTERNAL_ERROR" else Answer.AWAY
