"""Reads and writes the own columns of accounts, within the transactions of the other services."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from cachetools import TTLCache

from authapi.domain.user import User, UserWithProfile
from authapi.errors import InputError, InvalidInput
from authapi.services.identity_cache import CacheInvalidation, IdentityCache
from authapi.services.own_columns.models import ProfileInput, ProfileModels
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.application.profile import Profile
from authapi.storage.names import TableNames
from authapi.storage.tables.profiles import ProfileTable, Values


class OwnColumns:
    """The own columns of accounts; without a `profile`, every method leaves accounts as they are.

    The constructor raises ConfigurationError if the table or a model of `profile` cannot be used.
    Methods with a `store` take part in its transaction, in which the account is locked. Those that
    write raise ProfileTaken and InvalidInput, and all raise StorageUnavailable.
    """

    def __init__(
        self,
        database: Database,
        identity_cache: IdentityCache,
        invalidation: CacheInvalidation,
        settings: Settings,
        *,
        profile: Profile | None = None,
    ) -> None:
        self._database = database
        self._identity_cache = identity_cache
        self._invalidation = invalidation
        self._table: ProfileTable | None = None
        self.models: ProfileModels | None = None
        """The models of the application; None without own columns."""
        if profile is not None:
            self._table = ProfileTable(profile, TableNames.of(settings))
            self.models = ProfileModels(profile, self._table.json_columns)
        is_cached = profile is not None and profile.cached and settings.identity_cache_size > 0
        self._recent: TTLCache[UUID, tuple[int, Values | None]] | None = None
        if is_cached:
            size, ttl = settings.identity_cache_size, settings.identity_cache_ttl
            self._recent = TTLCache(maxsize=size, ttl=ttl.total_seconds())

    @property
    def is_declared(self) -> bool:
        """Whether the application has own columns."""
        return self.models is not None

    def new(self, given: ProfileInput | None) -> ProfileInput | None:
        """Returns the profile of a new account: `given`, or the defaults of the application.

        Raises InvalidInput if the application has no defaults.
        """
        return self.models.new({}) if given is None and self.models is not None else given

    def parse(self, raw: object) -> ProfileInput:
        """Returns a new profile from JSON. Raises InvalidInput, also without own columns."""
        if self.models is None:
            raise InvalidInput(InputError(("body", "profile"), "extra_forbidden", "unknown field"))
        return self.models.new(raw)

    async def check_free(self, given: ProfileInput | None) -> None:
        """Checks that no account has a value of `given` that must be unique.

        Raises ProfileTaken. `add` can still raise it.
        """
        if self._table is not None and self._table.has_unique and given is not None:
            async with self._database.read() as store:
                await self._table.check_free(store.connection, given.values)

    async def add(self, store: Store, user: User, given: ProfileInput | None) -> User:
        """Inserts the profile of a new account; returns the account with it."""
        if self._table is None or given is None:
            return user
        row = await self._table.add(store.connection, user.id, given.values)
        return self._with(user, row)

    async def change(self, store: Store, user: User, given: ProfileInput | None) -> bool:
        """Changes the profile of a locked account; returns whether it differs now.

        An account without a row gets one. Raises InvalidInput if the model `create` refuses the
        members for it.
        """
        if self._table is None or self.models is None or given is None:
            return False
        row = await self._table.find(store.connection, user.id, lock=True)
        if row is None:
            await self.add(store, user, self.models.new(given.raw))
            return True
        changes = {
            key: value for key, value in given.values.items() if not _is_same(value, row[key])
        }
        if changes:
            await self._table.change(store.connection, user.id, changes)
        return bool(changes)

    async def reset(self, store: Store, user: User) -> None:
        """Removes what the former owner of an account entered.

        The profile gets the defaults of the application, or goes if it has no defaults.
        Raises AccountInUse if another row of the application refers to a profile that goes.
        """
        if self._table is None or self.models is None:
            return
        if self.models.is_required:
            await self._table.delete(store.connection, user.id)
        else:
            await self.change(store, user, self.models.new({}))

    async def load(self, store: Store, user: User, *, lock: bool = False) -> User:
        """Returns the account with its profile; with `lock`, the row is locked too."""
        if self._table is None:
            return user
        return self._with(user, await self._table.find(store.connection, user.id, lock=lock))

    async def load_all(self, store: Store, users: Sequence[User]) -> Sequence[User]:
        """Returns the accounts with their profiles, by one query."""
        if self._table is None or not users:
            return users
        rows = await self._table.find_all(store.connection, [user.id for user in users])
        return [self._with(user, rows.get(user.id)) for user in users]

    async def attach(self, user: User) -> User:
        """Returns the account with its profile: from memory if it is cached, else by one query."""
        if self._table is None:
            return user
        recent = self._recent
        if recent is not None and self._invalidation.is_current():
            found = recent.get(user.id)
            if found is not None and not self._identity_cache.has_changed(user.id, since=found[0]):
                return self._with(user, found[1])
        snapshot = self._identity_cache.snapshot()
        async with self._database.read() as store:
            row = await self._table.find(store.connection, user.id)
        if recent is not None:
            recent[user.id] = snapshot, row
        return self._with(user, row)

    def _with(self, user: User, row: Values | None) -> User:
        if self.models is None:
            return user
        profile = None if row is None else self.models.shown(row)
        if isinstance(user, UserWithProfile):
            return replace(user, profile=profile)
        return UserWithProfile.of(user, profile)


def _is_same(one: object, other: object) -> bool:
    # 1 and True are equal, but not the same JSON.
    return one == other and repr(one) == repr(other)
