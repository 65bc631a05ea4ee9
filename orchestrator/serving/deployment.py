"""The same application on Ray Serve, which starts and ends copies of it as requests come.

``cluster/launch/serve.yaml`` names ``app`` here; Ray calls it with the file's ``args``.
"""

# No postponed annotations: Ray reads the class of the builder's argument from its signature.

import atexit
import os
from contextlib import ExitStack
from typing import Literal

from pydantic import BaseModel, ConfigDict
from ray import serve

from orchestrator.serving.app import Service, make_app
from orchestrator.serving.gate import Gate
from orchestrator.serving.limits import RequestLimits
from orchestrator.serving.models import load_models
from orchestrator.serving.paths import fetched_paths
from orchestrator.serving.token import read_token

NAME = "Classifiers"
"""Of the deployment."""


class DeploymentArguments(BaseModel):
    """``args`` of the file.

    Attributes:
        artefacts: ``FOLDER`` or ``NAME=FOLDER``, of a place that all nodes see; ``s3://…`` too.
        device: of each copy; ``cuda`` where the deployment asks for a GPU.
        precision: of the towers.
        backbone: the CLIP, if not where the artefacts say.
        token_from: environment variable of Ray's processes with the token that clients send.
        limits: of each copy.
    """

    model_config = ConfigDict(extra="forbid")

    artefacts: list[str]
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    backbone: str | None = None
    token_from: str | None = None
    limits: RequestLimits = RequestLimits()


def app(arguments: DeploymentArguments) -> serve.Application:
    """The application that Ray Serve deploys; artefacts are loaded where its copies run."""

    def build() -> Gate:
        return build_app(arguments)

    deployment = serve.deployment(
        serve.ingress(build)(), name=NAME, max_ongoing_requests=arguments.limits.queue
    )
    return deployment.bind()


def build_app(arguments: DeploymentArguments) -> Gate:
    """One copy of the application, in this process."""
    token = read_token(arguments.token_from, os.environ)
    stack = ExitStack()
    atexit.register(stack.close)
    models = load_models(
        stack.enter_context(fetched_paths(arguments.artefacts)),
        backbone=arguments.backbone,
        device=arguments.device,
        precision=arguments.precision,
    )
    return make_app(Service(models, arguments.limits), token)
