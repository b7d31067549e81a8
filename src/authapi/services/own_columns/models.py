"""The models of a profile, which refuse unknown members, and what they make of JSON."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from authapi.errors import InputError, InvalidInput
from authapi.storage.application.profile import Profile

_LOC = ("body", "profile")


@dataclass(frozen=True, slots=True)
class ProfileInput:
    """The member `profile` of a request, which a model of the application has accepted."""

    raw: object
    """The JSON as it was sent, for a job or another model to validate it again."""
    values: Mapping[str, object]
    """The values of the columns."""


class ProfileModels:
    """The models `create`, `update` and `read` of `profile`.

    `create` and `update` refuse unknown members, even if those of the application accept them.
    """

    def __init__(self, profile: Profile, json_columns: Collection[str]) -> None:
        self.create = _closed(profile.create)
        self.update = _closed(profile.update)
        self.read = profile.read
        self._json_columns = json_columns

    @property
    def is_required(self) -> bool:
        """Whether a new account needs a profile, because `create` has a required member."""
        return any(field.is_required() for field in self.create.model_fields.values())

    def new(self, raw: object) -> ProfileInput:
        """Returns a new profile, with the defaults of `create`. Raises InvalidInput."""
        try:
            return self.accepted(raw, self.create.model_validate(raw))
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
            raise InvalidInput(
                *(
                    InputError((*_LOC, *item["loc"]), item["type"], _message(item["msg"]))
                    for item in details
                )
            ) from None

    def accepted(self, raw: object, model: BaseModel, *, changes: bool = False) -> ProfileInput:
        """Returns what `model`, an instance of `create` or `update`, makes of `raw`.

        With `changes`, members that were left out have no value.
        """
        values = model.model_dump(exclude_unset=changes)
        as_json = self._json_columns & values.keys()
        values |= model.model_dump(mode="json", include=set(as_json), exclude_unset=changes)
        return ProfileInput(raw, values)

    def shown(self, values: Mapping[str, object]) -> BaseModel:
        """Returns the instance of `read` for a row. Raises RuntimeError if the row does not fit."""
        members = {name: values[name] for name in self.read.model_fields}
        try:
            return self.read.model_validate(members, by_name=True, by_alias=False)
        except ValidationError as error:
            # Not the error itself, whose text has the values of the row.
            places = [".".join(map(str, item["loc"])) for item in error.errors()]
            text = f"a row does not fit {self.read.__name__}: {', '.join(places)}"
            raise RuntimeError(text) from None


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _closed(model: type[BaseModel]) -> type[BaseModel]:
    if model.model_config.get("extra") == "forbid":
        return model
    return create_model(model.__name__, __base__=(model, _Closed), __doc__=model.__doc__)


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")
