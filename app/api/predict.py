"""POST /v1/models/{model}/predict: parts in, an answer out; as JSON, part by part, or drawn over the picture."""

from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import TypeAdapter, ValidationError
from starlette.routing import Route

from app.api.accept import preferred
from app.api.events import EVENTS, event_stream
from app.api.rules import EXPLAIN, Posted, Rules, check_explain
from app.api.service import service_of
from app.api.uploads import leaving, receive, refuse_query
from app.engine.admission import Reservation
from app.engine.deadline import Deadline
from app.engine.runner import Call
from app.engine.service import Service
from app.errors import NotAcceptable, Unavailable, WrongFields, from_validation

if TYPE_CHECKING:
    from pydantic import BaseModel

    from models.pipeline import Pipeline

JSON, PNG = "application/json", "image/png"
_boolean: TypeAdapter[bool] = TypeAdapter(bool)


async def predict(request: Request) -> Response:
    """Answer one bundle with one checkpoint."""
    request.scope["route"] = route  # as FastAPI's own routes do
    service = service_of(request)
    runner, settings = service.runner, service.settings
    reservation = _reservation(service, request)
    seconds = settings.deadline_seconds
    pipeline = await service.awake(request.path_params["model"], Deadline.of(reservation, seconds))
    kind = _kind(request, pipeline)
    rules = Rules.of(pipeline, settings.limits, settings.max_request_bytes)
    refuse_query(request)
    posted = await receive(request, rules, service, reservation)
    explain, options = _options(pipeline, posted, rules)
    if explain and kind == EVENTS:
        remedy = "Ask for application/json to get the explanation, or leave explain out."
        raise WrongFields("A stream of events carries no explanation.", remedy, field=EXPLAIN)
    head = _head(pipeline, request.state.request_id)
    if kind == EVENTS:
        # It is the sending of events that notices when a client has left.
        call = Call(pipeline, request.state.timing, Deadline.of(reservation, seconds))
        return await event_stream(runner, call, posted.bundle, options, head)
    async with leaving(request) as gone:
        call = Call(pipeline, request.state.timing, Deadline.of(reservation, seconds, gone))
        decoded, features = await runner.prepare(call, posted.bundle)
        # Tensors now: the bytes need not be held any longer, nor the pixels where nothing is drawn over them.
        drawn_on = decoded if kind == PNG else None
        del posted, decoded
        result = await runner.predict(call, features, options, explain=explain or kind == PNG)
        png = None if drawn_on is None else await runner.overlay(call, drawn_on, result)
        service.metrics.noticed(pipeline.config.name, result.notices)
        reservation.answered()
        if png is not None:
            return Response(png, headers=_headers(call), media_type=PNG)
        return JSONResponse(head | result.model_dump(exclude_none=True), headers=_headers(call))


def _reservation(service: Service, request: Request) -> Reservation:
    reservation = getattr(request.state, "reservation", None)
    if not isinstance(reservation, Reservation):
        # The middleware saw no such model; if now there is one, it came this moment.
        service.registry.profile(request.path_params["model"])
        raise Unavailable("The model was loaded at this moment.", 1)
    return reservation


def _kind(request: Request, pipeline: "Pipeline") -> str:
    offered = [JSON, EVENTS, *([PNG] if pipeline.draws else [])]
    kind = preferred(",".join(request.headers.getlist("accept")), offered)
    if kind is None:
        raise NotAcceptable(
            "The Accept header names no kind of answer that this model has.", f"Accept {', '.join(offered)}."
        )
    return kind


def _options(pipeline: "Pipeline", posted: Posted, rules: Rules) -> "tuple[bool, BaseModel]":
    sent = dict(posted.options)
    try:
        explain = _boolean.validate_python(sent.pop(EXPLAIN, False))
    except ValidationError as error:
        raise WrongFields("explain is true or false.", "Send one of the two.", field=EXPLAIN) from error
    check_explain(pipeline, explain)
    try:
        return explain, pipeline.options.model_validate(sent)
    except ValidationError as error:
        raise from_validation(error, rules.known) from error


def _head(pipeline: "Pipeline", request_id: str) -> dict[str, Any]:
    config = pipeline.config
    return {"id": request_id, "model": config.name, "version": config.version, "task": config.task}


def _headers(call: Call) -> dict[str, str]:
    return {"Server-Timing": call.timing.header()}


# Not one of FastAPI's: openapi.py describes the operation once for each checkpoint, and the route reads its own body.
route = Route("/v1/models/{model}/predict", predict, methods=["POST"])
