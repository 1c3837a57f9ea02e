"""POST /v1/models/{model}/load and /unload: checkpoints change while the others, and running requests, go on."""

import hmac
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer

from app.api.models import ModelCard, card
from app.api.problems import problems
from app.api.service import service_of
from app.errors import Conflict, Forbidden, LoadFailed, Unauthorized

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_PROBLEMS = problems(
    {
        401: "No admin key",
        403: "Not the admin key, or the server has none",
        404: "No such model",
        409: "The folder cannot be served, or several processes serve",
        503: "Models are still being loaded",
    },
    LoadFailed,
)


def check_admin(request: Request) -> None:
    """Let pass who sends the admin key.

    Raises:
        ServiceError: the key is missing or wrong, or these settings let nobody in.
    """
    settings = service_of(request).settings
    if settings.admin_key is None:
        raise Forbidden("This server has no admin key, so nobody may change its models.", "Set FUSIONRNN_ADMIN_KEY.")
    sent = _BEARER.fullmatch(request.headers.get("authorization", ""))
    if sent is None:
        raise Unauthorized("This needs the admin key.", "Send it in the header 'Authorization: Bearer KEY'.")
    if not hmac.compare_digest(sent[1].encode(), settings.admin_key.get_secret_value().encode()):
        raise Forbidden("This is not the admin key.", "Send the one in FUSIONRNN_ADMIN_KEY.")
    if settings.workers > 1:
        said = "Several processes serve here, and this request reaches one of them."
        raise Conflict(said, "Send SIGHUP to the process that started them: they begin anew, one after the other.")


# For /docs, which has a field for the key then; what is sent is checked above, with words of its own.
_bearer = HTTPBearer(auto_error=False, scheme_name="admin_key", description="The key in FUSIONRNN_ADMIN_KEY")
router = APIRouter(prefix="/v1/models", tags=["models"], responses=_PROBLEMS, dependencies=[Depends(_bearer)])
Admin = Annotated[None, Depends(check_admin)]


@router.post("/{model}/load", summary="Load or replace a checkpoint", response_model_exclude_none=True)
async def load(model: str, request: Request, _: Admin) -> ModelCard:
    """Load its folder as it is now, warm it up, and only then let it take over; running requests finish on the old."""
    service = service_of(request)
    return card(await service.swaps.load(model), service.settings.limits)


@router.post("/{model}/unload", status_code=204, summary="Unload a checkpoint")
async def unload(model: str, request: Request, _: Admin) -> None:
    """Serve it no more; its memory is free once running requests have finished on it."""
    await service_of(request).swaps.unload(model)
