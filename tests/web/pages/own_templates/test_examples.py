"""The example values with which templates are checked are those that the pages give."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from jinja2 import Template

from authapi import create_app
from authapi.clock import now
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from authapi.web.pages.own_templates.examples import examples
from authapi.web.pages.site import TEMPLATES, Site
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.routes.pages.people import ALICE, STALE, follow, sign_in_by_page

SIGNED_OUT = ("sign-in", "sign-up", "check-mail", "forgot", "forgot?done=sent", "x", "reset")
SIGNED_IN = (
    *("", "security", "security/password", "security/app"),
    *("security/passkeys", "devices", "tokens", "tokens/new", "activity"),
    *("data", "data/delete", "sign-in", "sign-out"),
)
Rendered = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """The templates that pages render, and the values."""
    found: Rendered = []
    real = Template.render

    def render(template: Template, *args: Any, **values: Any) -> str:
        name = str(template.name)
        if (TEMPLATES / name).is_file():  # not that of a mail
            found.append((name.removesuffix(".html"), values))
        return real(template, *args, **values)

    monkeypatch.setattr(Template, "render", render)
    return found


def lacks(example: object, real: object) -> set[str]:
    """The members of a real value, or of its items, that its example lacks."""
    if is_dataclass(real):
        found = {item.name for item in fields(real) if not hasattr(example, item.name)}
        for item in fields(real):
            if item.name not in found:
                found |= lacks(getattr(example, item.name), getattr(real, item.name))
        return found
    if isinstance(real, list | tuple) and real and isinstance(example, list | tuple):
        return lacks(example[0], real[0])
    return set()


async def visit(api: Client) -> None:
    for path in SIGNED_OUT:
        await api.get(f"/account/{path}", headers={"accept": "text/html"})
    await api.post("/account/sign-in", data={"email": ALICE, "password": "wrong"})
    user = await api.create_user(ALICE)
    await sign_in_by_page(api)
    for path in SIGNED_IN:
        assert (await api.get(f"/account/{path}".rstrip("/"))).status_code == 200, path
    made = await api.post("/account/tokens/new", data={"name": "x", "expires": "7", "form": "x"})
    assert "It is shown this once." in made.text
    await add_second_factors(api.services, user)
    for path in ("security", "security/app/remove", "security/codes", "prove"):
        assert (await api.get(f"/account/{path}")).status_code == 200, path
    await visit_console(api, user)
    api.cookies.clear()
    sent = await api.post("/account/sign-in", data={"email": ALICE, "password": PASSWORD})
    assert (await follow(api, sent)).status_code == 200


async def visit_console(api: Client, user: User) -> None:
    root = await api.create_user("root@example.com", is_superuser=True)
    api.cookies.clear()
    await sign_in_by_page(api, root.email)
    for path in ("people", f"people/{user.id}", "people/new", "events", "events/days"):
        assert (await api.get(f"/console/{path}")).status_code == 200, path
    await api.post("/console/people/new", data={"emails": "bob@example.com"})
    with travel_to(now() + STALE):
        await api.post(f"/console/people/{user.id}", data={"action": "deactivate"})


async def test_examples_have_the_values_of_the_pages(
    make_settings: SettingsFactory, rendered: Rendered
) -> None:
    settings = make_settings()
    async with client(create_app(settings)) as api:
        await visit(api)
    site = Site(settings)
    for name, values in list(rendered):
        full, *_, fewest = examples(site, name, "en")
        assert full.keys() == fewest.keys() == values.keys(), name
        for member, value in values.items():
            if value is not None:
                assert lacks(full[member], value) == set(), (name, member)
    assert len({name for name, _ in rendered}) == 32
