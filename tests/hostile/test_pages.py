"""Hostile forms, queries and cookies: each page stays a page, and runs nothing."""

from collections.abc import AsyncIterator, Iterable, Mapping
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi import Settings, create_app
from tests.hostile.checked_app import raw
from tests.hostile.page_inputs import (
    ALL_ACTIONS,
    BODIES,
    COOKIE_VALUES,
    COOKIES,
    FIELDS,
    FORM,
    PARAMETERS,
    QUERIES,
    TEXTS,
    TYPES,
    Pages,
    encoded,
    forms,
)
from tests.hostile.test_properties import fixed
from tests.second_factors import add_second_factors
from tests.web.asgi import RawHeaders
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox
from tests.web.pages.page_routes import page_paths
from tests.web.pages.scenes import SCOPES, create_person


@pytest.fixture
async def pages(database_url: str) -> AsyncIterator["tuple[Pages, Mapping[str, RawHeaders]]"]:
    """The pages, and the cookies of people who are signed out and in."""
    limits = {
        f"limit_{name}": "1000000/second"
        for name in (
            "account_and_network",
            "account",
            "network",
            "total",
            "registrations",
            "writes",
        )
    }
    settings = Settings(database_url=database_url, scopes=SCOPES, **limits)  # type: ignore[arg-type]  # pydantic parses them
    async with client_with_mailbox(settings, create_app(settings)) as api:
        alice = await create_person(api)
        bob = await create_person(api, "bob@example.com")
        people = {
            "signed out": [],
            "signed in": raw(await sign_in(api.services, alice)),
            "one factor": raw(await sign_in(api.services, bob)),
        }
        await add_second_factors(api.services, bob)
        yield Pages(api), people


async def send_texts(
    pages: tuple[Pages, Mapping[str, RawHeaders]], person: str, names: Iterable[str]
) -> None:
    site, people = pages
    for path, action in forms(site):
        if path != "/account/sign-out":
            for name in names:
                body = encoded(TEXTS[name], action)
                await site.send("POST", path, headers=[FORM, *people[person]], body=body)


@pytest.mark.parametrize("person", ["signed out", "signed in", "one factor"])
async def test_markup_in_every_field(
    pages: tuple[Pages, Mapping[str, RawHeaders]], person: str
) -> None:
    await send_texts(pages, person, ("markup", "placeholders", "new header"))


@pytest.mark.slow
@pytest.mark.parametrize("person", ["signed out", "signed in", "one factor"])
async def test_texts_in_every_field(
    pages: tuple[Pages, Mapping[str, RawHeaders]], person: str
) -> None:
    await send_texts(pages, person, TEXTS)


@pytest.mark.slow
async def test_bodies_that_are_no_form(pages: tuple[Pages, Mapping[str, RawHeaders]]) -> None:
    site, people = pages
    for path in page_paths(site.app, "POST"):
        if path == "/account/sign-out":
            continue
        for body in BODIES.values():
            await site.send("POST", path, headers=[FORM, *people["signed in"]], body=body)
        for kind in TYPES:
            answer = await site.send(
                "POST", path, headers=[(b"content-type", kind)], body=BODIES["multipart"]
            )
            assert answer.status_code in {400, 415}, (path, kind)


async def send_queries(
    pages: tuple[Pages, Mapping[str, RawHeaders]], person: str, texts: Iterable[str]
) -> None:
    site, people = pages
    encoded_texts = [quote_from_bytes(text.encode()) for text in texts if len(text) < 5_000]
    for path in page_paths(site.app):
        for text in encoded_texts:
            query = "&".join(f"{name}={text}" for name in PARAMETERS).encode()
            await site.send("GET", path, headers=people[person], query=query)


@pytest.mark.parametrize("person", ["signed out", "signed in"])
async def test_markup_in_every_parameter(
    pages: tuple[Pages, Mapping[str, RawHeaders]], person: str
) -> None:
    await send_queries(pages, person, [TEXTS["markup"], TEXTS["new header"]])


@pytest.mark.slow
@pytest.mark.parametrize("person", ["signed out", "signed in"])
async def test_queries(pages: tuple[Pages, Mapping[str, RawHeaders]], person: str) -> None:
    await send_queries(pages, person, TEXTS.values())
    site, people = pages
    for path in page_paths(site.app):
        for query in QUERIES:
            await site.send("GET", path, headers=people[person], query=query)


async def test_cookies(pages: tuple[Pages, Mapping[str, RawHeaders]]) -> None:
    site, _ = pages
    for path in ("/account/sign-in", "/account/check-mail", "/account/sign-in/second", "/account"):
        for name in COOKIES:
            for value in COOKIE_VALUES:
                await site.send("GET", path, headers=[(b"cookie", name.encode() + b"=" + value)])


@pytest.mark.slow
@fixed
@given(
    path=st.integers(min_value=0),
    fields=st.dictionaries(
        st.sampled_from([*FIELDS, "action"]) | st.text(max_size=8),
        st.text(max_size=60) | st.sampled_from([*TEXTS.values(), *ALL_ACTIONS]),
        max_size=12,
    ),
    is_signed_in=st.booleans(),
)
async def test_any_form(
    pages: tuple[Pages, Mapping[str, RawHeaders]],
    path: int,
    fields: Mapping[str, str],
    is_signed_in: bool,
) -> None:
    site, people = pages
    paths = [it for it in page_paths(site.app, "POST") if it != "/account/sign-out"]
    body = urlencode({name: text.encode("utf-8", "replace") for name, text in fields.items()})
    person = "signed in" if is_signed_in else "signed out"
    headers = [FORM, *people[person]]
    await site.send("POST", paths[path % len(paths)], headers=headers, body=body.encode())
