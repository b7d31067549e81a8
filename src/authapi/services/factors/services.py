"""The services of second factors, created in the order of their dependencies."""

from collections.abc import Callable
from dataclasses import dataclass

from authapi.crypto.factors.challenges import Challenges
from authapi.domain.factors.values import FactorMethod
from authapi.services.audit import Audit
from authapi.services.factors.additions import FactorAdditions
from authapi.services.factors.changes import FactorChanges
from authapi.services.factors.passkeys import Passkeys
from authapi.services.factors.proofs import SecondFactorProofs
from authapi.services.factors.step_up import StepUp
from authapi.services.factors.totp import TOTPEnrolment
from authapi.services.factors.webauthn.assertions import PasskeyAssertions
from authapi.services.factors.webauthn.registration import PasskeyRegistration
from authapi.services.keys import Keys
from authapi.services.mail import Mail
from authapi.services.rate_limits import RateLimits
from authapi.settings import Settings
from authapi.storage import Database


@dataclass(frozen=True, slots=True)
class FactorServices:
    """What the service does with second factors."""

    changes: FactorChanges
    passkeys: Passkeys
    registration: PasskeyRegistration
    additions: FactorAdditions
    step_up: StepUp
    totp: TOTPEnrolment
    proofs: SecondFactorProofs

    @classmethod
    def of(
        cls,
        database: Database,
        keys: Keys,
        rate_limits: RateLimits,
        audit: Audit,
        mail: Mail,
        settings: Settings,
        *,
        challenges: Callable[[], Challenges],
        on_outcome: Callable[[FactorMethod, bool], None] | None,
    ) -> "FactorServices":
        """Creates the services.

        `challenges` returns the challenges of passkeys; `on_outcome` is called with the method of a
        proof and whether it was right.
        """
        assertions = PasskeyAssertions(database, challenges, audit, settings, on_outcome=on_outcome)
        proofs = SecondFactorProofs(
            database, keys, assertions, rate_limits, audit, mail, on_outcome=on_outcome
        )
        additions = FactorAdditions(audit, mail, settings)
        registration = PasskeyRegistration(challenges, audit, settings)
        return cls(
            changes=FactorChanges(database, audit, mail, settings),
            passkeys=Passkeys(database, registration, additions, audit, mail, settings),
            registration=registration,
            additions=additions,
            step_up=StepUp(database, proofs, audit),
            totp=TOTPEnrolment(database, proofs, audit, mail, settings),
            proofs=proofs,
        )
