"""What `passkeys.js` puts into a form: a credential of the browser, as JSON."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from authapi.domain.factors.passkeys import Assertion, Attestation
from authapi.errors import InputError, InvalidInput
from authapi.web.routes.pages.flow import Sent
from authapi.web.schemas.factors.credentials import AssertedCredential, CreatedCredential

FIELD = "credential"
"""The field of the form."""

M = TypeVar("M", bound=BaseModel)


def assertion_of(sent: Sent) -> Assertion:
    """Returns the answer of an authenticator to a request for a passkey. Raises InvalidInput."""
    return _parsed(AssertedCredential, sent).assertion()


def attestation_of(sent: Sent) -> Attestation:
    """Returns the answer of an authenticator that has made a passkey. Raises InvalidInput."""
    return _parsed(CreatedCredential, sent).attestation()


def _parsed(model: type[M], sent: Sent) -> M:
    try:
        return model.model_validate_json(sent.get(FIELD), by_alias=True)
    except ValidationError:
        # The script has made it, so no field that the person sees is wrong.
        raise InvalidInput(InputError(("body", FIELD), "dict_type", "is no credential")) from None
