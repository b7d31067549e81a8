"""Models of request and response bodies with the member `profile`, for one application.

They are subclasses of the models of the routes, whose bodies they extend. In a request, the value
of the member is a `ProfileInput`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import (
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    WrapValidator,
    create_model,
    model_validator,
)

from authapi.services.own_columns import ProfileInput, ProfileModels
from authapi.web.schemas.administration import AccountChange, AccountOut, AccountPage, Invitation
from authapi.web.schemas.registration import Registration
from authapi.web.schemas.user import ExportOut, OwnChange, UserOut

Model = type[BaseModel]

_SHOWN = "The members that the application adds; null if the account has none."


def profile_of(body: BaseModel) -> ProfileInput | None:
    """Returns the member `profile` of a request body; None if it was left out."""
    profile = getattr(body, "profile", None)
    return profile if isinstance(profile, ProfileInput) else None


def models_with(models: ProfileModels) -> Mapping[Model, Model]:
    """Returns the models that replace those of the routes."""
    shown = (models.read | None, Field(description=_SHOWN))
    account = _extended(AccountOut, profile=shown)
    user = _extended(UserOut, name="UserWithProfileOut", profile=shown)
    given = _accepting(models, models.create)
    changed = (_accepting(models, models.update, changes=True), Field(default_factory=_absent))
    optional = (given, Field(default_factory=_absent))
    registration = _extended(Registration, profile=optional)
    if models.is_required:
        registration = _extended(_Required, name="Registration", profile=(given, ...))
    return {
        Registration: registration,
        OwnChange: _extended(OwnChange, profile=changed),
        Invitation: _extended(Invitation, profile=optional),
        AccountChange: _extended(AccountChange, profile=changed),
        UserOut: user,
        AccountOut: account,
        AccountPage: _extended(AccountPage, items=(list[account], ...)),  # type: ignore[valid-type]  # a model of this call
        ExportOut: _extended(ExportOut, account=(user, ...)),
    }


class _Required(Registration):
    __doc__ = Registration.__doc__

    @model_validator(mode="before")
    @classmethod
    def _require_members(cls, body: object) -> object:
        # The errors name the members that are missing, rather than their object.
        return {"profile": {}, **body} if isinstance(body, dict) else body


def _absent() -> Any:
    return None


def _accepting(models: ProfileModels, model: Model, *, changes: bool = False) -> Any:
    """Returns a type that validates with `model`, and has a `ProfileInput` as its value."""

    def accept(raw: object, validate: ModelWrapValidatorHandler[BaseModel]) -> ProfileInput:
        return models.accepted(raw, validate(raw), changes=changes)

    return Annotated[model, WrapValidator(accept)]


def _extended(model: Model, *, name: str | None = None, **fields: Any) -> Model:
    extended = create_model(name or model.__name__, __base__=model, __doc__=model.__doc__, **fields)
    return cast("Model", extended)
