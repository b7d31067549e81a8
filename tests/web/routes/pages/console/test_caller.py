"""The gate of the console: for all but superusers, it does not exist."""

import re
from collections.abc import Mapping
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.logins import sign_in
from tests.web.pages.anatomy import alerts_of, page_of
from tests.web.pages.outages import database_away
from tests.web.pages.page_routes import ID, console_paths
from tests.web.pages.scenes import create_person
from tests.web.pages.statements import counting
from tests.web.pages.texts import ENGLISH
from tests.web.routes.pages.console.scene import Scene, console
from tests.web.routes.pages.people import STALE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO")
OTHERS = ("/console/", "/console/nothing", "/console/people/x/y", "/console/people/x", "/console/x")
"""Paths without a page."""
PRODUCTION: Mapping[str, object] = {
    "env": "production",
    "public_url": "https://auth.example.com",
    "secret": "0123456789abcdef" * 4,
    "mail_url": "none:",
    "allow_sqlite": True,
}


def all_paths() -> list[str]:
    """The paths of all pages and forms of the console, and paths without one."""
    app = create_app(Settings())
    return [*dict.fromkeys([*console_paths(app), *console_paths(app, "POST")]), *OTHERS]


def visible(answer: httpx.Response) -> tuple[int, Mapping[str, str], str]:
    """What a client sees, without the id of the request."""
    headers = {name: text for name, text in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, headers, answer.text.replace(answer.headers["x-request-id"], "id")


async def ask(scene: Scene, method: str, path: str, **headers: str) -> httpx.Response:
    fields = {"action": "delete"} if method in ("POST", "PUT", "PATCH") else None
    return await scene.browser.request(method, path, fields, headers)


async def unknown(scene: Scene, method: str, path: str, **headers: str) -> httpx.Response:
    """The response to a path of the same length that no route has."""
    return await ask(scene, method, f"/account{path.removeprefix('/console')}-", **headers)


NETWORKS: Mapping[str, tuple[str, ...]] = {
    "elsewhere": ("10.8.0.0/16",),  # the client of the tests has a loopback address
    "forwarded": ("127.0.0.0/8",),
}
SUPERUSERS = ("deactivated superuser", *NETWORKS)


def test_the_paths_are_those_of_the_console() -> None:
    """Each route below /console is one of its package, and so behind its gate."""
    app = create_app(Settings())
    for method in ("GET", "POST"):
        found = {
            str(route.path)
            for route in iter_route_contexts(app.routes)
            if str(route.path).startswith("/console") and method in (route.methods or ())
        }
        listed = {path.replace(ID, "{user_id}") for path in console_paths(app, method)}
        assert found == listed
    pages = ("mail", "webhooks", "keys", "status", "events/days", "events/export", "people/new")
    assert {f"/console/{page}" for page in pages} <= set(all_paths())


@pytest.mark.parametrize(
    "person", ["anonymous", "stranger", "garbage", "ended", "deactivated", *SUPERUSERS]
)
async def test_the_console_does_not_exist_for_others(
    make_settings: SettingsFactory, person: str
) -> None:
    async with console(make_settings(console_networks=NETWORKS.get(person, ()))) as scene:
        services = scene.api.services
        user = scene.alice
        if person in SUPERUSERS:
            user = await create_person(scene.api, "second@example.com", is_superuser=True)
        cookie = dict(await sign_in(services, user))["cookie"]
        if person == "ended":
            await services.sessions.end_all(user.id)
        if person.startswith("deactivated"):
            changes = {"is_active": False}
            await services.accounts.administration.change(user.id, changes)  # type: ignore[arg-type]  # one change
        if person == "forwarded":
            scene.api.headers["x-forwarded-for"] = "127.0.0.1"
        cookies = {"anonymous": "", "garbage": "authapi=x; authapi=y"}
        scene.api.headers["cookie"] = cookies.get(person, cookie)
        for path in all_paths():
            for method in METHODS:
                found = visible(await ask(scene, method, path))
                nothing = await ask(scene, method, re.sub("[^/]+$", "none", path) or "/console")
                assert found[0] == 404, (method, path)
                if path != "/console":  # relative addresses depend on the depth
                    assert found == visible(nothing), (method, path)
                assert "set-cookie" not in found[1]


async def test_a_path_that_no_page_has_looks_the_same_elsewhere(
    make_settings: SettingsFactory,
) -> None:
    """Below /account, only the relative addresses of the page differ."""
    async with console(make_settings()) as scene:
        await scene.sign_in_as(scene.alice)
        for path in ("/console/people", "/console/events"):
            for method in METHODS:
                found, other = await ask(scene, method, path), await unknown(scene, method, path)
                assert visible(found)[2].replace("../account/", "") == visible(other)[2]
                lengths = {"content-length": ""}
                assert {**visible(found)[1], **lengths} == {**visible(other)[1], **lengths}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"sec-fetch-dest": "image"},
        {"authorization": "Bearer x"},
        {"authorization": "Basic eDp4"},
        {"content-type": "application/json"},
        {"accept": "application/json"},
    ],
    ids=["foreign", "image", "bearer", "basic", "json", "api"],
)
async def test_no_header_tells_a_stranger_that_there_is_a_console(
    make_settings: SettingsFactory, headers: Mapping[str, str]
) -> None:
    async with console(make_settings()) as scene:
        await scene.sign_in_as(scene.alice)
        for path in ("/console/people", f"/console/people/{scene.root.id}", "/console/people/new"):
            nothing = re.sub("[^/]+$", "none", path)
            for method in ("GET", "POST"):
                found = await ask(scene, method, path, **headers)
                assert visible(found) == visible(await ask(scene, method, nothing, **headers))
                assert found.status_code == 404


async def test_a_stranger_costs_the_look_up_of_the_caller(scene: Scene) -> None:
    cookie = (await sign_in(scene.api.services, scene.alice))["cookie"]
    counts = []
    for path in (scene.person, "/console/events", "/console/people"):
        for method in ("GET", "POST"):
            with counting(scene.api.services.database) as statements:
                answer = await ask(scene, method, path, cookie=cookie)
            assert answer.status_code == 404
            counts.append(len(statements))
    assert counts == [1, 0, 0, 0, 0, 0]
    with counting(scene.api.services.database) as statements:
        for path in all_paths():
            for method in METHODS:
                assert (await ask(scene, method, path, cookie="")).status_code == 404
    assert statements == []


@pytest.mark.parametrize("person", ["anonymous", "stranger", "superuser", "garbage"])
async def test_without_the_database_the_console_does_not_exist(scene: Scene, person: str) -> None:
    """The cache knows none of the callers, so that they must be looked up."""
    services = scene.api.services
    user = scene.root if person == "superuser" else scene.alice
    cookies = {"anonymous": "", "garbage": "authapi=x"}
    scene.api.headers["cookie"] = cookies.get(person, (await sign_in(services, user))["cookie"])
    services.identity_cache.clear()
    with database_away():
        for path in all_paths():
            if path == "/console":  # relative addresses depend on the depth
                continue
            for method in ("GET", "HEAD", "POST", "PUT"):
                found = visible(await ask(scene, method, path))
                nothing = await ask(scene, method, re.sub("[^/]+$", "none", path) or "/console")
                assert (found[0], found) == (404, visible(nothing)), (method, path)


async def test_without_the_database_a_superuser_who_is_known_reads_of_it(scene: Scene) -> None:
    cookie = {"cookie": (await sign_in(scene.api.services, scene.root))["cookie"]}
    assert (await ask(scene, "GET", "/console/people", **cookie)).status_code == 200
    with database_away():
        for method in ("GET", "POST"):
            answer = await ask(scene, method, scene.person, **cookie)
            assert answer.status_code == 503, method
            assert ENGLISH["database_unavailable"] in alerts_of(page_of(answer))
    assert await scene.current() == scene.alice


@pytest.mark.parametrize("path", console_paths(create_app(Settings())))
async def test_every_page_is_shown_to_a_superuser(
    make_settings: SettingsFactory, path: str
) -> None:
    async with console(make_settings()) as scene:
        answer = await scene.browser.request("GET", path)
        if path == "/console":
            assert (answer.status_code, answer.headers["location"]) == (303, "./console/people")
        elif "export" in path or str(UUID(int=7 << 76 | 2 << 62)) in path:
            assert answer.status_code == 404  # without a format, or without such an account
        else:
            assert answer.status_code == 200
            page_of(answer)
        with travel_to(now() + STALE):
            assert (await scene.browser.request("GET", path)).status_code in {200, 303, 404}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "null", "sec-fetch-site": "cross-site"},
        {"origin": "http://evil.localhost", "sec-fetch-site": "same-site"},
    ],
    ids=["foreign", "opaque", "sibling"],
)
async def test_a_form_of_another_website_is_refused_to_a_superuser(
    scene: Scene, headers: Mapping[str, str]
) -> None:
    for path in console_paths(create_app(Settings()), "POST"):
        answer = await ask(scene, "POST", path, **headers)
        assert answer.status_code == 403, path
        assert alerts_of(page_of(answer)) != []
    assert await scene.current() == scene.alice


@pytest.mark.parametrize("change", ["demoted", "deactivated", "signed out", "deleted"])
async def test_who_is_no_superuser_any_longer_sees_nothing(scene: Scene, change: str) -> None:
    services = scene.api.services
    other = await create_person(scene.api, "second@example.com", is_superuser=True)
    await scene.sign_in_as(other)
    assert (await ask(scene, "GET", "/console/people")).status_code == 200
    administration = services.accounts.administration
    if change == "signed out":
        await services.sessions.end_all(other.id)
    elif change == "deleted":
        await services.accounts.deletion.delete(other.id)
    else:
        changes = {"demoted": {"is_superuser": False}, "deactivated": {"is_active": False}}
        await administration.change(other.id, changes[change])  # type: ignore[arg-type]  # one change
    for method in ("GET", "POST"):
        found = await ask(scene, method, scene.person)
        assert visible(found) == visible(await ask(scene, method, f"/console/people/{uuid4()}"))
        assert found.status_code == 404
    assert await scene.current() == scene.alice


async def test_in_production_one_factor_leads_to_the_set_up_from_each_path(
    make_settings: SettingsFactory,
) -> None:
    async with console(make_settings(**PRODUCTION)) as scene:
        scene.api.base_url = "https://auth.example.com"
        app = create_app(Settings())
        for method in ("GET", "POST"):
            for path in console_paths(app, method):
                answer = await ask(scene, method, path)
                assert answer.status_code == 303, (method, path)
                if path != "/console":
                    assert answer.headers["location"].endswith("account/security?done=console")
        for path in OTHERS:
            assert (await ask(scene, "GET", path)).status_code in {303, 404}
        assert await scene.current() == scene.alice


@pytest.mark.parametrize("path", ["/console/people", "/console/events", "/console/people/new"])
async def test_in_production_the_console_opens_after_two_factors(
    make_settings: SettingsFactory, path: str
) -> None:
    settings = make_settings(**PRODUCTION)
    async with console(settings) as scene:
        scene.api.base_url = "https://auth.example.com"
        up = "../" * (path.count("/") - 1)
        answer = await scene.browser.request("GET", path)
        assert answer.headers["location"] == f"{up}account/security?done=console"
        shown = await scene.browser.open(path)
        assert "The console opens only after a second step." in shown.text
        sent = await scene.send(path, emails="bob@example.com")
        assert sent.status_code in {303, 404}
        factors = await add_second_factors(scene.api.services, scene.root)
        scene.api.headers.update(await sign_in(scene.api.services, factors.user))
        answer = await scene.browser.request("GET", path)
        wanted = f"{up}account/prove?next={path.replace('/', '%2F')}"
        assert answer.headers["location"] == wanted
        cookie = scene.api.headers.pop("cookie")
        name, _, secret = cookie.partition("=")
        scene.api.cookies.set(name, secret)  # the proof renews it
        prove = await scene.browser.open(path)
        form = next(form for form in prove.forms() if form.typed)
        proof = {"code": factors.code(), "password": PASSWORD}
        names = {item["name"] for item in form.typed}
        opened = await scene.browser.send(
            form, **{name: text for name, text in proof.items() if name in names}
        )
        assert opened.path == path


async def test_the_links_to_the_console_are_for_superusers(scene: Scene) -> None:
    account = await scene.browser.open("/account")
    assert "./console/people" in [link["href"] for link in account.root.all("a")]
    await scene.sign_in_as(scene.alice)
    account = await scene.browser.open("/account")
    assert not [link for link in account.root.all("a") if "console" in link["href"]]
