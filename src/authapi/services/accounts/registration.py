"""Registration: how strangers come to an account, as the settings allow."""

from authapi.errors import RegistrationClosed
from authapi.identity import EventType, User, current_client
from authapi.services.accounts.changes import add_user, check_locale, new_user
from authapi.services.accounts.one_time import OneTimeSecrets
from authapi.services.accounts.requests import Requests
from authapi.services.addresses import EmailAddress
from authapi.services.audit import Audit
from authapi.services.mail import Mail, Occasion
from authapi.services.passwords import Passwords
from authapi.services.throttle import Throttle
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.tables.one_time_secrets import Purpose


class Registration:
    """Makes accounts for strangers."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        requests: Requests,
        one_time: OneTimeSecrets,
        throttle: Throttle,
        mail: Mail,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._requests = requests
        self._one_time = one_time
        self._throttle = throttle
        self._mail = mail
        self._audit = audit
        self._settings = settings

    async def register(
        self, email: EmailAddress, password: str, *, name: str | None, locale: str | None = None
    ) -> User | None:
        """A new account for a stranger, or None where its address has to be confirmed first.

        Then nobody learns whether the address is taken: the work is the same, and the mail tells.
        Raises RegistrationClosed, TooManyAttempts, InvalidInput, EmailTaken.
        """
        if self._settings.registration not in {"open", "confirm"}:
            raise RegistrationClosed
        check_locale(locale, self._settings)
        async with self._audit.throttling():
            await self._throttle.registration(current_client())
        await self._passwords.check_new(password, email=email.canonical)
        stored = await self._passwords.hash(password)
        if self._settings.registration == "confirm":
            more = {"name": name, "locale": locale, "password_hash": stored.text}
            await self._requests.put("register", email, more)
            return None
        user = new_user(email, name=name, locale=locale)
        async with (
            self._throttle.mail("register", email.canonical) as turn,
            self._database.transaction() as store,
        ):
            await store.users.wait_for_addresses(email.canonical)
            await add_user(store, user, email, stored)
            await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
            if self._settings.sends_mail and turn.is_admitted:
                made = await self._one_time.make(store, user, Purpose.CONFIRM)
                await self._mail.queue(
                    store,
                    Occasion.CONFIRM,
                    user,
                    secret=made.text,
                    expires_at=made.expires_at,
                )
                turn.is_used = True
        return user
