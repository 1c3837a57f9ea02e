"""/v1/collections: photos and videos put under a name, searched by a sentence or a photo."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Path, Request, Response
from pydantic import ValidationError

from app.api.collection_cards import (
    PAGE,
    CollectionCard,
    CollectionList,
    FoundItem,
    ItemCard,
    ItemDetail,
    ItemList,
    MomentCard,
    SearchAnswer,
    SearchOptions,
)
from app.api.parts import declared
from app.api.problems import BODY, problems
from app.api.rules import Posted, Rules
from app.api.service import service_of
from app.api.uploads import TIMEOUT_HEADER, leaving, receive, refuse_query, wanted_within
from app.engine.admission import Reservation
from app.engine.deadline import Deadline
from app.engine.runner import Call
from app.engine.service import Service
from app.errors import Conflict, NoSuchModel, Unavailable, UnsupportedType, WrongFields, from_validation
from app.samples import coded, picture
from app.search.collections import Collections, NoSuchItem
from app.search.executor import CollectionsExecutor
from app.search.items import Collection, Item

if TYPE_CHECKING:
    from app.search.moments import Annotator, Inference, Moment
    from models.features import Modality
    from models.pipeline import Pipeline
    from models.tasks.task import Result

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ITEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
# Described only: what is sent is checked below, with words of its own.
Name = Annotated[str, Path(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
ItemId = Annotated[str, Path(json_schema_extra={"pattern": f"^{_ITEM.pattern}$"})]
_RETRY = 60


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.collections = CollectionsExecutor(app.state.service.settings)
    try:
        yield
    finally:
        await asyncio.to_thread(app.state.collections.close)


def _body(parts: dict[str, dict[str, Any]], example: dict[str, Any]) -> dict[str, Any]:
    """The body of an operation, as a form and as JSON with base64 for files."""
    form = {name: {key: item for key, item in part.items() if key != "contentEncoding"} for name, part in parts.items()}
    text = {name: {key: item for key, item in part.items() if key != "format"} for name, part in parts.items()}
    strict = {"type": "object", "minProperties": 1, "additionalProperties": False}
    return {
        "parameters": [TIMEOUT_HEADER],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": strict | {"properties": form}},
                "application/json": {"schema": strict | {"properties": text}, "example": example},
            },
        },
    }


def _file(said: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "contentEncoding": "base64", "description": said}


def _check_store(request: Request) -> None:
    """Let pass where the store is this process' alone, or one that many may share.

    Raises:
        Conflict: several processes would write into one folder.
    """
    settings = service_of(request).settings
    if settings.workers > 1 and settings.collections_url is None:
        said = "Several processes serve here, and the embedded store of collections is for one."
        raise Conflict(said, "Set FUSIONRNN_COLLECTIONS_URL to a Qdrant server, or FUSIONRNN_WORKERS to 1.")


router = APIRouter(
    prefix="/v1/collections", tags=["collections"], lifespan=_lifespan, dependencies=[Depends(_check_store)]
)
_STORE = {
    409: "Several processes serve, or the folder cannot be written",
    503: "The store is in use, or unreachable",
    507: "The store's disk is full, or fails",
}
_MISSING = "No such collection or item"
_WRONG = "A name or a part that is not as it must be"
_KNOWN = problems({404: _MISSING, 422: _WRONG} | _STORE, NoSuchItem)


@router.get("", summary="The collections", responses=problems(_STORE))
async def list_collections(request: Request) -> CollectionList:
    """Every collection, by name."""
    return CollectionList(data=[CollectionCard.of(found) for found in await _collections(request).ask(Collections.all)])


@router.get("/{name}", summary="A collection and its items", responses=_KNOWN)
async def get_collection(name: Name, request: Request, after: str | None = None) -> ItemList:
    """Its counts and up to 100 of its items; give ``next`` as ``after`` to see the following ones."""
    _check_name(name)
    if unknown := [field for field in request.query_params if field != "after"]:
        said = f"The address has no option '{unknown[0]}'."
        raise WrongFields(said, f"It takes after alone; a page has {PAGE} items.", field=unknown[0])
    if after is not None and not _is_uuid(after):
        raise WrongFields("'after' is not the 'next' of a former answer.", "Leave it out to begin.", field="after")

    def look(store: Collections) -> tuple[Collection, list[Item], str | None]:
        return store.describe(name), *store.items(name, PAGE, after)

    collection, items, following = await _collections(request).ask(look)
    return ItemList.of(collection, data=[ItemCard.of(item) for item in items], next=following)


@router.delete("/{name}", status_code=204, summary="Forget a collection", responses=_KNOWN)
async def delete_collection(name: Name, request: Request) -> None:
    """Forget all of its items."""
    _check_name(name)
    await _collections(request).ask(lambda store: store.delete(name))


@router.get("/{name}/items/{item}", summary="An item", responses=_KNOWN)
async def get_item(name: Name, item: ItemId, request: Request) -> ItemDetail:
    """What was seen of it: a caption in each language, for a video one of every second."""
    _check_name(name, item)
    return await _detail(_collections(request), name, item)


@router.delete("/{name}/items/{item}", status_code=204, summary="Forget an item", responses=_KNOWN)
async def delete_item(name: Name, item: ItemId, request: Request) -> None:
    """Forget it; the collection stays, also without any item."""
    _check_name(name, item)
    await _collections(request).ask(lambda store: store.delete(name, item))


@router.put(
    "/{name}/items/{item}",
    summary="Put a photo or a video",
    responses=problems(BODY | {409: "The collection is full, or of another checkpoint", 422: _WRONG, 507: _STORE[507]})
    | {201: {"model": ItemDetail, "description": "The id was new"}},
    openapi_extra=_body({"image": _file("A photo"), "video": _file("A video")}, {"image": coded(picture())}),
)
async def put_item(name: Name, item: ItemId, request: Request, response: Response) -> ItemDetail:
    """Caption and embed an upload, a video each second, in place of what had the id; the same again costs nothing."""
    _check_name(name, item)
    refuse_query(request)
    service, collections = service_of(request), _collections(request)
    service.check_loaded()
    with _reservation(request, "put") as reservation:
        annotator = await _annotator(service, reservation)
        posted = await receive(request, _rules(service, annotator, ("image", "video")), service, reservation)
        part, data = _only(posted)
        assert isinstance(data, bytes)
        _check_kind(part, data)
        digest = await service.runner.offload(lambda: hashlib.sha256(data).hexdigest())
        if not await collections.ask(lambda store: store.holds(name, item, annotator.model, annotator.writer, digest)):
            await collections.ask(lambda store: store.require_room(name, item))
            async with leaving(request) as gone:
                deadline = Deadline.of(reservation, service.settings.collections_seconds, gone)
                moments = await _watch(request, deadline, annotator, data)
            kept = Item(
                item, "image" if moments[0].seconds is None else "video", len(moments), digest, annotator.writer
            )
            new = await collections.ask(lambda store: store.put(name, kept, moments, annotator.model), accepted=True)
            response.status_code = 201 if new else 200
            reservation.answered()
            # Not asked back from the store, where somebody may have deleted it since.
            seen = [MomentCard.of(moment) for moment in moments]
            return ItemDetail.of(kept, moments=seen)
    return await _detail(collections, name, item)


@router.post(
    "/{name}/search",
    summary="Search a collection",
    responses=problems(
        BODY | {404: _MISSING, 409: "The collection is of another checkpoint", 422: _WRONG, 507: _STORE[507]},
        NoSuchItem,
    ),
    openapi_extra=_body(
        {
            "text": {"type": "string", "description": "What to look for, in English or Chinese"},
            "image": _file("Or a photo, to find what is like it"),
            "limit": SearchOptions.model_json_schema()["properties"]["limit"],
        },
        {"text": "a dog in the snow", "limit": 5},
    ),
)
async def search(name: Name, request: Request) -> SearchAnswer:
    """The items whose nearest moment is nearest to a text, or to a photo."""
    _check_name(name)
    refuse_query(request)
    service, collections = service_of(request), _collections(request)
    service.check_loaded()
    with _reservation(request, "search") as reservation:
        annotator = await _annotator(service, reservation)
        posted = await receive(
            request, _rules(service, annotator, ("image", "text"), (*SearchOptions.model_fields,)), service, reservation
        )
        part, content = _only(posted)
        try:
            options = SearchOptions.model_validate(posted.options)
        except ValidationError as error:
            raise from_validation(error, [*SearchOptions.model_fields]) from error
        await collections.ask(lambda store: store.require(name))
        bundle: dict[Modality, list[bytes | str]] = {part: [content]}
        async with leaving(request) as gone:
            deadline = Deadline.of(reservation, service.settings.deadline_seconds, gone)
            call = Call(annotator.embedder, request.state.timing, deadline)
            _, features = await service.runner.prepare(call, bundle)
            answer = await service.runner.predict(call, features, annotator.embedder.options(), explain=False)
        vector = annotator.query_vector(answer)
        found = await collections.ask(lambda store: store.search(name, vector, options.limit, annotator.model))
        reservation.answered()
    return SearchAnswer(data=[FoundItem.of(kept, moments) for kept, moments in found], notices=answer.notices or {})


def _collections(request: Request) -> CollectionsExecutor:
    collections = request.app.state.collections
    assert isinstance(collections, CollectionsExecutor)
    return collections


def _check_name(name: str, item: str | None = None) -> None:
    if not _NAME.fullmatch(name):
        said = "A collection's name is up to 64 of a-z, 0-9, '-' and '_', and begins with a letter or a digit."
        raise WrongFields(said, "Choose such a name.", field="name", limit="64 characters")
    if item is not None and not _ITEM.fullmatch(item):
        said = "An item's id is up to 128 of A-Z, a-z, 0-9, '.', '-', '_' and '~', and begins with a letter or a digit."
        raise WrongFields(said, "Choose such an id.", field="item", limit="128 characters")


def _is_uuid(value: str) -> bool:
    """Whether it is one as the store writes them, which asks for nothing else."""
    with suppress(ValueError):
        return str(UUID(value)) == value
    return False


def _rules(
    service: Service, annotator: "Annotator", accepts: "tuple[Modality, ...]", options: tuple[str, ...] = ()
) -> Rules:
    embedder, settings = annotator.embedder, service.settings
    part_bytes = {part: embedder.part_bytes(part, settings.limits) for part in accepts}
    written = frozenset(part for part in accepts if embedder.is_written(part))
    return Rules(dict.fromkeys(accepts, 1), part_bytes, written, options, frozenset(), settings.max_request_bytes)


def _reservation(request: Request, kind: str) -> Reservation:
    service = service_of(request)
    nbytes = min(declared(request.headers), service.settings.max_request_bytes)
    # Others' requests run between the pictures of an upload, so they need not wait for its end.
    return service.admission.enter(
        f"collections/{kind}", nbytes, wanted_within(request.headers), interleaves=kind == "put"
    )


def _check_kind(part: "Modality", data: bytes) -> None:
    from app.search.moments import kind_of

    kind = kind_of(data, part)
    if kind != part:
        said = f"The part '{part}' holds a medium of the kind {kind}."
        raise UnsupportedType(said, f"Send it as '{kind}'.", modality=part)


def _only(posted: Posted) -> "tuple[Modality, bytes | str]":
    if len(posted.bundle) > 1:
        parts = " and ".join(posted.bundle)
        raise WrongFields(f"There are {parts} in one request.", "Send one of them.", modality=parts, limit="1 part")
    ((part, (content,)),) = posted.bundle.items()
    return part, content


async def _annotator(service: Service, reservation: Reservation) -> "Annotator":
    """The checkpoints that the settings name; without the captioner, items are put without captions.

    Raises:
        DeadlinePassed: it took too long to load them.
        Unavailable: the one that embeds is not served, or the two cannot be used.
    """
    from app.search.moments import Annotator

    settings = service.settings
    deadline = Deadline.of(reservation, settings.deadline_seconds)
    captions = settings.collections_captioner in service.registry.served
    captioner = await service.awake(settings.collections_captioner, deadline) if captions else None
    try:
        embedder = await service.awake(settings.collections_model, deadline)
    except NoSuchModel as error:
        said = f"Collections need the checkpoint '{settings.collections_model}' (FUSIONRNN_COLLECTIONS_MODEL)"
        raise Unavailable(f"{said}, which is not served.", _RETRY) from error
    try:
        return Annotator(embedder, captioner)
    except ValueError as error:
        raise Unavailable(f"Collections cannot be used with these settings: {error}.", _RETRY) from error


async def _watch(request: Request, deadline: Deadline, annotator: "Annotator", data: bytes) -> "list[Moment]":
    """Look at an upload picture by picture: others' requests run in between, and one picture is held at a time."""
    service = service_of(request)
    runner, pictures = service.runner, annotator.pictures(data, service.settings.limits)
    moments = []

    def call(pipeline: "Pipeline") -> Call:
        service.swaps.use(pipeline.config.name)
        return Call(pipeline, request.state.timing, deadline)

    async def answers(asked: "list[Inference]") -> "list[Result]":
        calls = (runner.predict(call(each.pipeline), each.features, each.options, explain=False) for each in asked)
        return await asyncio.gather(*calls)

    def close() -> None:
        with suppress(ValueError):  # still at a picture that nobody waits for: it ends by itself
            pictures.close()

    try:
        while (shown := await runner.attempt(call(annotator.embedder), lambda: next(pictures, None))) is not None:
            told = await answers(await runner.offload(partial(annotator.inferences, shown[1])))
            seen = await runner.offload(partial(annotator.described, *shown, told))
            read = await answers(await runner.offload(partial(annotator.readings, seen)))
            moments.append(annotator.read(seen, read))
    finally:
        await runner.offload(close)
    return moments


async def _detail(collections: CollectionsExecutor, name: str, item: str) -> ItemDetail:
    kept, moments = await collections.ask(lambda store: store.item(name, item))
    return ItemDetail.of(kept, moments=[MomentCard.of(moment) for moment in moments])
