"""create_app: the application, which answers at once and loads its checkpoints meanwhile."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from app import openapi
from app.api import admin, collections, health, live, metrics, models, predict, problems, stream
from app.api.admission import AdmissionMiddleware
from app.api.head import Head
from app.engine.service import Service
from app.engine.sessions import Sessions
from app.log import log
from app.settings import Settings, unknown_settings
from app.telemetry import RequestLog, Unforeseen
from app.tracing import Tracer
from models.memory import bound_plans, give_back, keep_freed_memory

_DESCRIPTION = """\
Multimodal fusion RNNs: post image, text, audio and video; get captions, classes, words and embeddings.

[live](live) takes a microphone and a camera, and shows the answers as they come.
"""

_TIDY_SECONDS = 60.0


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service under ``settings``, by default those of the environment. ``app.state.service`` holds its state."""
    settings = settings or Settings()
    # Before there are threads, which would have heaps of their own.
    keep_freed_memory()
    bound_plans()
    if unknown := unknown_settings(os.environ):
        log.warning("unknown settings are ignored", names=unknown)
    service = Service(settings)
    tracer = Tracer.by_otlp() if settings.traces else None
    sessions = Sessions(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.loading = asyncio.create_task(asyncio.to_thread(service.load))
        measuring = asyncio.create_task(_measure(service.loading, service))
        watch = asyncio.create_task(service.swaps.watch())
        tidying = asyncio.create_task(_tidy())
        if settings.workers > 1:
            # The socket opens after this: while another process serves there, one that cannot yet must not answer.
            await asyncio.shield(service.loading)
        try:
            yield
        finally:
            watch.cancel()
            tidying.cancel()
            service.draining = True
            await sessions.drain()
            await service.loading
            service.runner.close()
            await measuring
            if tracer is not None:
                await asyncio.to_thread(tracer.close)

    app: FastAPI = FastAPIOffline(
        title="fusionrnn",
        version=_version(),
        description=_DESCRIPTION,
        openapi_tags=openapi.TAGS,
        lifespan=lifespan,
        # It repeats a DELETE at an address that clients shorten: items/.. of a collection would be the collection.
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.sessions = sessions
    app.add_middleware(Head)
    app.add_middleware(AdmissionMiddleware, service=service)
    app.add_middleware(Unforeseen, service=service)
    if settings.cors_origins:
        # Around the admission and what nobody foresaw: a page must be able to read a refusal too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Retry-After", "Server-Timing", "X-Request-ID"],
        )
    # Around the questions, too, that browsers ask before they let a page ask.
    app.add_middleware(RequestLog, metrics=service.metrics, tracer=tracer)
    app.add_middleware(stream.Streams, sessions=sessions)
    problems.install(app)
    app.router.routes += [predict.route, stream.plain]
    for resource in (models, admin, collections, health, metrics, live):
        app.include_router(resource.router)
    app.router.routes.append(Route("/", lambda _: RedirectResponse("docs"), include_in_schema=False))
    openapi.install(app, service)
    return app


async def _measure(loading: "asyncio.Task[None]", service: Service) -> None:
    await asyncio.shield(loading)
    await asyncio.to_thread(service.measure)


async def _tidy() -> None:
    """Give back what is free, now and then: between what stays, requests of all sizes leave more and more holes."""
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        await asyncio.to_thread(give_back)


def _version() -> str:
    try:
        return version("fusionrnn")
    except PackageNotFoundError:
        return "0+source"
