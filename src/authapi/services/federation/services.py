"""The services of logins at other providers, created in the order of their dependencies."""

from dataclasses import dataclass

from authapi.services.accounts.deferred import DeferredRequests
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.audit import Audit
from authapi.services.federation.addresses import FederatedAddresses
from authapi.services.federation.arrivals import Arrivals
from authapi.services.federation.codes import CODE_USE, LoginCodes
from authapi.services.federation.email_tickets import TICKET_USE, EmailTickets
from authapi.services.federation.links import IdentityLinks
from authapi.services.federation.sign_up import FederatedSignUp
from authapi.services.federation.step_up import FederatedStepUp
from authapi.services.hooks import Hooks
from authapi.services.keys import Keys
from authapi.services.mail import Mail
from authapi.services.own_columns import OwnColumns
from authapi.services.rate_limits import RateLimits
from authapi.settings import Settings
from authapi.storage import Database


@dataclass(frozen=True, slots=True)
class FederationServices:
    """What the service does with people whom providers have authenticated."""

    arrivals: Arrivals
    addresses: FederatedAddresses
    codes: LoginCodes
    links: IdentityLinks
    step_up: FederatedStepUp

    @classmethod
    def of(
        cls,
        database: Database,
        links: IdentityLinks,
        keys: Keys,
        rate_limits: RateLimits,
        audit: Audit,
        mail: Mail,
        email_tokens: EmailTokens,
        deferred: DeferredRequests,
        hooks: Hooks,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> "FederationServices":
        """Creates the services. `links` are those of `Logins`."""
        sign_up = FederatedSignUp(
            database, links, email_tokens, rate_limits, audit, hooks, own_columns, settings
        )
        tickets = EmailTickets(lambda: keys.cipher_for(TICKET_USE))
        arrivals = Arrivals(database, sign_up, tickets, rate_limits, audit, mail, hooks, settings)
        return cls(
            arrivals=arrivals,
            addresses=FederatedAddresses(
                database, arrivals, sign_up, tickets, deferred, email_tokens, settings
            ),
            codes=LoginCodes(database, lambda: keys.cipher_for(CODE_USE)),
            links=links,
            step_up=FederatedStepUp(database, audit),
        )
