"""The login form, at the URL that the clients of the application know."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import OAuth2PasswordRequestForm

from sync_app.models import Token
from sync_app.security import auth

router = APIRouter(tags=["login"])


@router.post("/login/access-token")
def log_in(
    request: Request,
    response: Response,
    form: Annotated[OAuth2PasswordRequestForm, Depends()],
) -> Token:
    """Get an access token for an address and a password."""
    login = auth.sync.log_in(request, form.username, form.password, strategy="jwt")
    login.set_on(response)
    return Token.model_validate(login.body)
