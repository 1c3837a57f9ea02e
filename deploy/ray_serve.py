"""The service on Ray Serve: ``serve run deploy.ray_serve:app``, from the root of the repository.

Each replica is the whole application in a process of its own, under the same FUSIONRNN_* settings as anywhere else. A
WebSocket stays with the replica that took it. Arguments are ``Scale``'s fields:

    serve run deploy.ray_serve:app min_replicas=2 max_replicas=8 num_gpus=1
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field, NonNegativeFloat, PositiveInt
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from deploy.autoscaling import STEPS, BySteps

if TYPE_CHECKING:
    from app.engine.service import Service

# Read where the cluster's processes start: on a cluster that runs already, set it on its nodes.
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "deploy.retry:middlewares")

_ONGOING = 1000
"""Most requests that are sent to a replica at a time: its own admission, which knows bytes and steps, says no first."""


class Scale(BaseModel):
    """How many replicas there are, and what each takes."""

    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    steps_each: PositiveInt = Field(20_000, description="Waiting steps above which there is one replica more")
    num_cpus: NonNegativeFloat = 1
    num_gpus: NonNegativeFloat = Field(0, description="1: a device a replica")
    upscale_delay_s: NonNegativeFloat = 10
    downscale_delay_s: NonNegativeFloat = 300


def build() -> FastAPI:
    """The application, in a replica, which counts as started when its checkpoints are loaded."""
    from app.main import create_app

    application = create_app()
    opened = application.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
        async with opened(running) as state:
            await _service(running).loading  # type: ignore[misc]  # begun by the line above
            yield state

    application.router.lifespan_context = lifespan
    return application


def _service(application: Any) -> "Service":
    service: Service = application.state.service
    return service


@serve.ingress(build)
class Replica:
    """One process with all checkpoints on one device."""

    app: FastAPI

    def check_health(self) -> None:
        """Raise where nothing can be served: Ray then replaces the replica."""
        _service(self.app).check_ready()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``BySteps`` decides by."""
        return {STEPS: float(_service(self.app).runner.admission.steps)}


def app(scale: Scale) -> serve.Application:
    """The application that ``serve run`` starts."""
    policy = AutoscalingPolicy(
        policy_function=f"{BySteps.__module__}:{BySteps.__name__}", policy_kwargs={"steps_each": scale.steps_each}
    )
    scaling = AutoscalingConfig(
        min_replicas=scale.min_replicas,
        max_replicas=scale.max_replicas,
        upscale_delay_s=scale.upscale_delay_s,
        downscale_delay_s=scale.downscale_delay_s,
        policy=policy,
    )
    options = {"num_cpus": scale.num_cpus, "num_gpus": scale.num_gpus}
    deployed: Any = serve.deployment(
        Replica,
        name="fusionrnn",
        autoscaling_config=scaling,
        max_ongoing_requests=_ONGOING,
        ray_actor_options=options,
        graceful_shutdown_timeout_s=30,
    )
    application: serve.Application = deployed.bind()
    return application
