"""/account/sign-in/second: the second step of signing in, with a code."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.errors import LoginExpired
from authapi.web.context import context_of
from authapi.web.login_cookie import discarded_cookie, read_browser_id
from authapi.web.pages import addresses
from authapi.web.pages.rendering import EMPTY, Form, render, see_other
from authapi.web.routes.login.second_factor import prove_second_factor
from authapi.web.routes.pages.flow import Sent, invalid, perform, receive
from authapi.web.routes.pages.sign_in import signed_in
from authapi.web.routing import AuthAPIRoute

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account", tags=["pages"]
)

_DIGITS = 6
_MAX_LENGTH = 100
"""Characters of a recovery code with its spaces and dashes."""


@router.get("/sign-in/second")
async def show_second_step(request: Request) -> Response:
    """Show the form, if a login is under way in this browser."""
    wanted = addresses.wanted(request, request.query_params.get("next"))
    settings = context_of(request).runtime.services.settings
    if read_browser_id(request, settings) is None:
        return see_other(addresses.page(request, "sign-in", done="expired", next=wanted))
    return _show(request, Form({"next": wanted or ""}))


@router.post("/sign-in/second")
async def second_step(request: Request) -> Response:
    """Prove the second factor, and lead to `next`."""
    sent = await receive(request)
    wanted = addresses.wanted(request, sent.get("next"))

    async def show_again(form: Form, status: int) -> Response:
        return _show(request, Form({"next": wanted or ""}, form.errors, form.problem), status)

    async def act() -> Response:
        code, recovery_code = _codes(sent)
        try:
            done = await prove_second_factor(request, code=code, recovery_code=recovery_code)
        except LoginExpired:
            settings = context_of(request).runtime.services.settings
            location = addresses.page(request, "sign-in", done="expired", next=wanted)
            return see_other(location, headers=discarded_cookie(request, settings))
        return signed_in(request, done, wanted)

    field = "recovery_code" if "recovery_code" in sent.fields else "code"
    return await perform(request, sent, act, show_again, fields={"second_factor_refused": field})


def _codes(sent: Sent) -> tuple[str | None, str | None]:
    """Returns the code of the app, or the recovery code. Raises InvalidInput.

    A text that is no code costs no attempt.
    """
    if "recovery_code" in sent.fields:
        text = sent.get("recovery_code").strip()
        if not text or len(text) > _MAX_LENGTH or not text.isascii() or not text.isprintable():
            raise invalid("recovery_code", "recovery_code_invalid")
        return None, text
    code = "".join(sent.get("code").split())
    if len(code) != _DIGITS or not code.isascii() or not code.isdigit():
        raise invalid("code", "code_invalid")
    return code, None


def _show(request: Request, form: Form = EMPTY, status: int = 200) -> Response:
    return render(request, "second-step", status=status, form=form)
