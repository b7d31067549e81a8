"""Sensitive forms ask a person who signed in some time ago for the password, in the same form.

A session of an account with a second factor that it has not proved is asked for a code, too. The
gates of the API decide what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authapi.domain.factors.passkeys import Assertion
from authapi.domain.identity import Identity
from authapi.errors import InsufficientAuthentication, StaleAuthentication
from authapi.web.context import context_of
from authapi.web.pages import addresses
from authapi.web.requirements import Gate, check_requirements
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller
from authapi.web.routes.pages.codes import code_of
from authapi.web.routes.pages.flow import Sent, invalid

FRESH = identity_if_configured(
    "session", fresh=True, mfa="enrolled", accepts_one_factor=True, writes="by_session"
)
"""The gate of changes of credentials: a recent login, with a second factor if the account has one.
"""
_PROVER = identity_if_configured("session", accepts_one_factor=True, writes="by_session")
"""The gate of a proof, as that of the API. A proof changes the session, so it counts as a write."""
PROOF_FIELDS: Mapping[str, str] = {"wrong_password": "password", "wrong_code": "code"}
"""The fields of a form that the refusals of `prove` are about, by their codes."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a form asks for, so that the person proves who they are."""

    password: bool = False
    code: bool = False
    other_way: str | None = None
    """The address of the page that accepts a passkey instead; None if nothing is asked for."""

    @property
    def is_any(self) -> bool:
        """Whether anything is asked for."""
        return self.password or self.code


def needs_of(caller: Caller, gate: Gate[Identity] = FRESH) -> Needs:
    """Returns what the login of the caller lacks to pass `gate`."""
    context = context_of(caller.request)
    binding, here = gate.bind(context.runtime), addresses.visible_path(caller.request)
    way = None
    if caller.identity.user.mfa:
        way = addresses.page(caller.request, "prove", next=here)
    try:
        check_requirements(binding, gate.requirements, caller.identity, context)
    except StaleAuthentication:
        return Needs(password=True, other_way=way)
    except InsufficientAuthentication as refusal:
        return Needs(password=refusal.max_age is not None, code=True, other_way=way)
    return Needs()


async def prove(caller: Caller, sent: Sent, gate: Gate[Identity] = FRESH) -> Identity:
    """Verifies what the form asks for, and returns the identity that has passed `gate`.

    Raises InvalidInput for an empty field, WrongPassword, WrongCode, TooManyAttempts, and as the
    gate, also if the login has become too old since the form was shown.
    """
    needs = needs_of(caller, gate)
    if sent.get("password") or (needs.password and "password" in sent.fields):
        await prove_password(caller, sent)
    if needs.code and "code" in sent.fields:
        await prove_code(caller, sent)
    return await caller.passes(gate)


async def prove_password(caller: Caller, sent: Sent) -> None:
    """Verifies the password of the form, however recent the login is.

    Raises InvalidInput for an empty field, WrongPassword, TooManyAttempts and TooManyRequests.
    """
    password = sent.get("password")
    if not password:
        raise invalid("password", "password_missing")
    await caller.passes(_PROVER)
    await caller.renewing(
        lambda secret: caller.services.accounts.authentication.reauthenticate(
            caller.identity, password, new_secret_hash=secret
        ),
        is_proof=True,
    )


async def prove_code(caller: Caller, sent: Sent) -> None:
    """Verifies the code of the app in the form, or the recovery code.

    Raises InvalidInput for a text that is neither, WrongCode, TooManyAttempts and TooManyRequests.
    """
    code, recovery_code = code_of(sent.get("code"))
    await caller.passes(_PROVER)
    await caller.renewing(
        lambda secret: caller.services.factors.step_up.prove(
            caller.identity, code=code, recovery_code=recovery_code, new_secret_hash=secret
        ),
        is_proof=True,
    )


async def prove_passkey(caller: Caller, passkey: Assertion) -> None:
    """Verifies the answer of an authenticator. Raises WrongPasskey and TooManyRequests."""
    await caller.passes(_PROVER)
    await caller.renewing(
        lambda secret: caller.services.factors.step_up.prove(
            caller.identity, passkey=passkey, new_secret_hash=secret
        ),
        is_proof=True,
    )
