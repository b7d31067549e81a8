"""/me/factors: the second factors of the caller."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from authapi.domain.identity import Identity
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.answers.qr_codes import qr_svg
from authapi.web.answers.renewals import renewal_of, secret_of, with_renewal
from authapi.web.context import context_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routing import ProtectedRoute
from authapi.web.schemas.factors.enrolment import (
    Confirmation,
    ConfirmedOut,
    EnrolmentOut,
    RecoveryCodesOut,
)
from authapi.web.schemas.factors.overview import FactorsOut

router = APIRouter(route_class=ProtectedRoute, tags=["second factors"], prefix="/me/factors")

# With `mfa=required`, a login by one factor adds its second one here.
Owner = Annotated[
    Identity, Depends(identity_if_configured("session", "jwt", accepts_one_factor=True))
]
Writer = Annotated[
    Identity,
    Depends(identity_if_configured("session", "jwt", accepts_one_factor=True, writes="by_session")),
]
# The services check the second factor again, in the transaction of the change.
FreshOwner = Annotated[
    Identity,
    Depends(
        identity_if_configured(
            *("session", "jwt"),
            fresh=True,
            mfa="enrolled",
            accepts_one_factor=True,
            writes="by_session",
        )
    ),
]
FreshHolder = Annotated[
    Identity,
    Depends(identity_if_configured("session", "jwt", fresh=True, mfa=True, writes="by_session")),
]
_RENEWED: dict[int | str, dict[str, Any]] = {
    200: response_header("Set-Cookie", "The new cookie, if the request had one.")
}


@router.get("", responses=problems(401, 404, 503))
async def read_factors(identity: Owner, request: Request) -> FactorsOut:
    """List your second factors, and how many recovery codes are left."""
    changes = context_of(request).runtime.services.factors.changes
    return FactorsOut.of(await changes.overview(identity.user))


@router.post("/totp", status_code=201, responses=problems(401, 403, 404, 409, 429, 503))
async def enrol_totp(identity: FreshOwner, request: Request) -> EnrolmentOut:
    """Begin to add an authenticator app. Requires a recent login.

    The response has the secret, which is not shown again. The app counts only once a code of it is
    confirmed, by the same session within ten minutes.
    """
    enrolment = await context_of(request).runtime.services.factors.totp.begin(identity)
    return EnrolmentOut.of(enrolment, await qr_svg(enrolment.uri))


@router.post(
    "/totp/confirm",
    response_model=ConfirmedOut,
    responses=_RENEWED | problems(400, 401, 403, 404, 408, 409, 415, 422, 429, 503),
)
async def confirm_totp(body: Confirmation, identity: Writer, request: Request) -> Response:
    """Confirm the new authenticator app with a code that it shows. Five codes are compared at most.

    With the first second factor, the response has the recovery codes of your account, and all your
    other logins end; personal access tokens stay. A session cookie is replaced, and refresh tokens
    end.
    """
    runtime = context_of(request).runtime
    renewal = renewal_of(runtime.registry, identity)
    codes = await runtime.services.factors.totp.confirm(
        identity, body.code, new_secret_hash=secret_of(renewal)
    )
    answer = ConfirmedOut() if codes is None else ConfirmedOut(recovery_codes=list(codes))
    content = answer.model_dump_json(exclude_unset=True)
    return with_renewal(Response(content, media_type="application/json"), renewal)


@router.delete("/totp", status_code=204, responses=problems(401, 404, 429, 503))
async def remove_totp(identity: FreshOwner, request: Request) -> None:
    """Remove your authenticator app, and your recovery codes with it.

    Requires a recent login that has proved a second factor.
    """
    await context_of(request).runtime.services.factors.changes.remove_totp(identity)


@router.post("/recovery-codes", responses=problems(401, 404, 429, 503))
async def new_recovery_codes(identity: FreshHolder, request: Request) -> RecoveryCodesOut:
    """Replace all your recovery codes. Requires a recent login that has proved a second factor."""
    changes = context_of(request).runtime.services.factors.changes
    return RecoveryCodesOut(recovery_codes=list(await changes.new_recovery_codes(identity)))
