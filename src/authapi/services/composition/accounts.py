"""The services of accounts, created in the order of their dependencies."""

from dataclasses import dataclass

from authapi.services.accounts.administration import Administration
from authapi.services.accounts.authentication import Authentication
from authapi.services.accounts.deferred import DeferredRequests
from authapi.services.accounts.deletion import Deletion
from authapi.services.accounts.email_change import EmailChanges
from authapi.services.accounts.email_tokens import EmailTokens, MailedLinks
from authapi.services.accounts.invitations import Invitations
from authapi.services.accounts.new_devices import NewDevices
from authapi.services.accounts.passwords import PasswordChanges
from authapi.services.accounts.profile import Profiles
from authapi.services.accounts.registration import Registration
from authapi.services.accounts.superusers.access import AccountAccess
from authapi.services.audit import Audit
from authapi.services.hooks import Hooks
from authapi.services.mail import Mail
from authapi.services.own_columns import OwnColumns
from authapi.services.passwords import Passwords
from authapi.services.rate_limits import RateLimits
from authapi.settings import Settings
from authapi.storage import Database


@dataclass(frozen=True, slots=True)
class AccountServices:
    """What the service does with accounts, one service for each verb."""

    access: AccountAccess
    administration: Administration
    authentication: Authentication
    deferred_requests: DeferredRequests
    deletion: Deletion
    email_changes: EmailChanges
    invitations: Invitations
    mailed_links: MailedLinks
    new_devices: NewDevices
    passwords: PasswordChanges
    profiles: Profiles
    registration: Registration

    @classmethod
    def of(
        cls,
        database: Database,
        passwords: Passwords,
        authentication: Authentication,
        deferred_requests: DeferredRequests,
        email_tokens: EmailTokens,
        new_devices: NewDevices,
        rate_limits: RateLimits,
        audit: Audit,
        mail: Mail,
        hooks: Hooks,
        own_columns: OwnColumns,
        settings: Settings,
    ) -> "AccountServices":
        """Creates the services that no other service needs, beside those that are given."""
        return cls(
            access=AccountAccess(database, audit),
            administration=Administration(
                database, audit, email_tokens, mail, own_columns, settings
            ),
            authentication=authentication,
            deferred_requests=deferred_requests,
            deletion=Deletion(database, audit, hooks, settings),
            email_changes=EmailChanges(
                database,
                email_tokens,
                deferred_requests,
                authentication,
                rate_limits,
                mail,
                audit,
                own_columns,
                settings,
            ),
            invitations=Invitations(database, passwords, email_tokens, audit),
            mailed_links=MailedLinks(email_tokens),
            new_devices=new_devices,
            passwords=PasswordChanges(
                database,
                passwords,
                authentication,
                email_tokens,
                mail,
                audit,
                own_columns,
                settings,
            ),
            profiles=Profiles(database, audit, own_columns, settings),
            registration=Registration(
                database,
                passwords,
                deferred_requests,
                email_tokens,
                rate_limits,
                audit,
                hooks,
                own_columns,
                settings,
            ),
        )
