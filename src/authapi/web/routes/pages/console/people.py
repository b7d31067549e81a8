"""/console/people: the accounts, searched and in pages."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from authapi.domain.email_address import MAX_LENGTH as MAX_EMAIL_LENGTH
from authapi.domain.email_address import canonical_prefix
from authapi.domain.user import UserFilter, UserOrder
from authapi.domain.username import MAX_LENGTH as MAX_USERNAME_LENGTH
from authapi.domain.username import canonical_username_prefix
from authapi.errors import InvalidInput
from authapi.services.accounts.administration import UserPage
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import single_line
from authapi.web.pages.site import site_of
from authapi.web.routes.pages.console.caller import Administrator, router_for, shown

router = router_for("/people")

_ALL_ROLES = "All"
"""The text of the choice of no role, which is an id of the catalogues by the template."""
_ROWS = 20
_FLAGS: Mapping[str, bool] = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters as the address has them; a value that is not valid is left out."""

    email: str
    username: str
    active: str
    confirmed: str
    superuser: str
    role: str
    sort: str

    @classmethod
    def of(cls, request: Request, roles: Mapping[str, object]) -> "Filters":
        """Returns the filters in the address of the page."""
        given = request.query_params
        role, sort = given.get("role", ""), given.get("sort", "")
        return cls(
            email=_text(given.get("email"), MAX_EMAIL_LENGTH),
            username=_text(given.get("username"), MAX_USERNAME_LENGTH),
            **{
                name: value if (value := given.get(name, "")) in _FLAGS else ""
                for name in ("active", "confirmed", "superuser")
            },
            role=role if role in roles else "",
            sort=sort if sort in set(UserOrder) else UserOrder.NEWEST.value,
        )

    @property
    def is_any(self) -> bool:
        """Whether the list is filtered."""
        return any((self.email, self.username, self.active, self.confirmed)) or any(
            (self.superuser, self.role)
        )

    def condition(self) -> UserFilter:
        """Returns the condition for the search."""
        return UserFilter(
            email_prefix=canonical_prefix(self.email) if self.email else None,
            active=_FLAGS.get(self.active),
            confirmed=_FLAGS.get(self.confirmed),
            superuser=_FLAGS.get(self.superuser),
            role=self.role or None,
            username_prefix=canonical_username_prefix(self.username) if self.username else None,
        )

    def address(self, caller: Administrator, after: str | None = None) -> str:
        """Returns the address of the list with these filters."""
        sort = "" if self.sort == UserOrder.NEWEST else self.sort
        values = {name: getattr(self, name) for name in FILTERS} | {"sort": sort}
        return caller.address("people", **values, after=after)


FILTERS = ("email", "username", "active", "confirmed", "superuser", "role", "sort")
"""The parameters of the list."""


@shown(router, "")
async def show_people(caller: Administrator) -> Response:
    """List the accounts."""
    settings = caller.services.settings
    filters = Filters.of(caller.request, settings.roles)
    after = caller.request.query_params.get("after")
    page = await _page(caller, filters, after)
    if page is None:
        after = None
        page = await _page(caller, filters, None) or UserPage([], None)
    return caller.render(
        "console-people",
        filters=filters,
        kept=(*FILTERS, "after"),
        has_usernames=settings.login_identifier != "email",
        roles=_roles(caller),
        people=page.items,
        invited=await caller.services.accounts.access.invited_among(page.items),
        can_invite=settings.sends_mail,
        clear=caller.address("people") if filters.is_any else "",
        next=None if page.next is None else filters.address(caller, page.next),
        first=None if after is None else filters.address(caller),
    )


async def _page(caller: Administrator, filters: Filters, after: str | None) -> UserPage | None:
    """Returns a page of the list; None if `after` is no cursor of it."""
    try:
        return await caller.services.accounts.administration.page(
            filters.condition(), order=UserOrder(filters.sort), after=after, limit=_ROWS
        )
    except InvalidInput:
        if after is None:
            raise
        return None


def _roles(caller: Administrator) -> Mapping[str, str]:
    """Returns the roles to choose from, with their texts; nothing if no role is configured."""
    roles = caller.services.settings.roles
    if not roles:
        return {}
    every = site_of(caller.request).text(_ALL_ROLES, language_of(caller.request))
    return {"": every, **{name: name for name in roles}}


def _text(value: str | None, limit: int) -> str:
    text = single_line(value or "").strip()
    return text if len(text) <= limit else ""
