"""The OpenAPI document matches the behavior of the routes: security, bodies and limits."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.security import APIKeyHeader
from fastapi.security.base import SecurityBase

from authapi import AuthAPI, Settings, User, create_app, current_identity, current_user
from authapi.testing import acting_as, client
from authapi.web.requirements import Gate, gates_of
from tests.conftest import SettingsFactory
from tests.web.scanners import Scanner, publish

ALL = ("session", "token", "jwt", "basic")
SCOPES = {"reports:read": "Read reports"}
BUILT_IN = {"introspect": "Ask whether tokens are alive, and whose"}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
UNUSED_ID = str(UUID(int=7 << 76 | 2 << 62))

Document = Mapping[str, Any]


@pytest.fixture
def settings(make_settings: SettingsFactory, tmp_path: Path) -> Settings:
    """Settings that enable every feature."""
    return make_settings(
        strategies=ALL,
        docs=True,
        scopes=SCOPES,
        jwt_audiences=("billing",),
        leak_report_keys=publish(tmp_path / "scanners.json", Scanner()),
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The shipped app with every feature enabled."""
    return create_app(settings)


@pytest.fixture
def own(settings: Settings) -> FastAPI:
    """An importing application with a gate of every kind."""
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    read = {"reports:read"}
    gates: dict[str, tuple[Gate[object], ...]] = {
        "open": (),
        "every": (current_user(),),
        "one": (current_user("jwt"),),
        "in_order": (current_user("session", "jwt", "token"),),
        "optional": (current_identity(optional=True),),
        "optional_one": (current_identity("token", optional=True),),
        "scoped": (current_user("jwt", "token", scopes=read),),
        "scoped_cookie": (current_user("session", scopes=read),),
        "optional_scoped": (current_user("jwt", scopes=read, optional=True),),
        "strict": (current_user("jwt", verified=True, superuser=True, fresh=True),),
        "strong": (current_user("jwt", mfa=True, fresh=timedelta(minutes=2)),),
        "enrolled": (current_user(mfa="enrolled"), current_user(fresh=True)),
        "resistant": (current_user(mfa=timedelta(hours=1)), current_identity(acr="phr")),
        "optional_strong": (current_user(), current_user(mfa=True, optional=True)),
        "same_twice": (current_user("jwt"), current_identity("jwt")),
        "in_common": (current_user("session", "token"), current_user("token", "jwt", scopes=read)),
        "both": (current_user("session"), current_user("token", "jwt")),
        "optional_and_strict": (current_user(optional=True), current_user("jwt")),
        "optional_twice": (current_user(optional=True), current_user("jwt", optional=True)),
    }
    for name, chosen in gates.items():
        app.get(f"/{name}", dependencies=[Depends(gate) for gate in chosen])(lambda: None)
        app.post(f"/{name}/{{number}}", dependencies=[Depends(gate) for gate in chosen])(_posted)
    router = APIRouter(prefix="/inner")
    router.get("/open")(lambda: None)
    router.get("/mine", dependencies=[Depends(current_user("token"))])(lambda: None)
    outer = APIRouter(dependencies=[Depends(current_user("token", "jwt"))])
    outer.include_router(router)
    app.include_router(outer, prefix="/routed")
    app.add_api_websocket_route("/live", _live)
    return app


async def _posted(number: int, body: dict[str, int]) -> None: ...


async def _live(user: Annotated[User, Depends(current_user())]) -> None: ...


# Logins -------------------------------------------------------------------------------------------


def test_age_and_strength_of_the_login_are_described(own: FastAPI) -> None:
    expected: Mapping[str, tuple[Document, str]] = {
        "every": ({}, ""),
        "strict": ({"max_age": 300}, "Requires a login, at most 300 seconds ago."),
        "strong": (
            {"mfa": True, "acr": "urn:authapi:acr:2", "max_age": 120},
            "Requires a login with two factors, at most 120 seconds ago.",
        ),
        "enrolled": (
            {"mfa": "enrolled", "max_age": 300},
            (
                "Requires a login with a second factor if the account has one, "
                "at most 300 seconds ago."
            ),
        ),
        "resistant": (
            {"mfa": True, "acr": "phr", "mfa_max_age": 3600},
            (
                "Requires a login that resists phishing (`phr`), "
                "with the second factor at most 3600 seconds ago."
            ),
        ),
        # An optional gate refuses a weak caller too, and the other one has found a caller.
        "optional_strong": (
            {"mfa": True, "acr": "urn:authapi:acr:2"},
            "Requires a login with two factors.",
        ),
    }
    paths = own.openapi()["paths"]
    for name, (required, sentence) in expected.items():
        for operation in (paths[f"/{name}"]["get"], paths[f"/{name}/{{number}}"]["post"]):
            assert operation.get("x-authapi-requires", {}) == required, name
            assert operation.get("description", "") == sentence, name


async def test_the_own_description_of_a_route_is_kept(settings: Settings) -> None:
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/reports", dependencies=[Depends(current_user(acr="phr"))])
    def reports() -> None:
        """List reports."""

    operation = app.openapi()["paths"]["/reports"]["get"]
    assert operation["description"] == (
        "List reports.\n\nRequires a login that resists phishing (`phr`)."
    )
    assert app.openapi()["paths"]["/reports"]["get"] == operation, "described once"


def test_changes_of_credentials_say_what_they_require(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert paths["/me/password"]["post"]["x-authapi-requires"] == {"mfa": "enrolled"}
    assert paths["/me"]["delete"]["x-authapi-requires"] == {"mfa": "enrolled", "max_age": 300}
    assert "x-authapi-requires" not in paths["/me/reauthenticate"]["post"]
    assert "x-authapi-requires" not in paths["/me"]["get"]


async def test_what_the_settings_add_is_described(settings: Settings) -> None:
    def required(**changes: object) -> Callable[[str], object]:
        auth = AuthAPI(settings.model_copy(update=changes))
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)
        gates = {
            "any": current_user(),
            "optional": current_user(optional=True),
            "aged": current_user(mfa=timedelta(hours=1)),
        }
        for name, gate in gates.items():
            app.get(f"/{name}", dependencies=[Depends(gate)])(lambda: None)
        paths = app.openapi()["paths"]

        def of(route: str) -> object:
            method, path = route.split()
            return paths[path][method.lower()].get("x-authapi-requires")

        return of

    two = {"mfa": True, "acr": "urn:authapi:acr:2"}
    strong = required(mfa="required")
    assert strong("GET /any") == strong("GET /me") == two
    assert strong("GET /aged") == {**two, "mfa_max_age": 3600}
    assert (
        strong("DELETE /me") == strong("DELETE /admin/users/{user_id}") == {**two, "max_age": 300}
    )
    # Open to a login by one factor, or to callers without a credential.
    assert strong("GET /optional") is None
    assert strong("GET /me/factors") is strong("POST /logout") is None
    assert strong("POST /me/factors/totp") == {"mfa": "enrolled", "max_age": 300}
    ranked = required(mfa_required_superusers=True)
    assert ranked("GET /admin/users") == two
    assert ranked("DELETE /admin/users/{user_id}/factors") == {**two, "max_age": 300}
    assert ranked("GET /any") is ranked("GET /me") is None


# Security -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["app", "own"])
async def test_declared_security_matches_anonymous_responses(
    request: pytest.FixtureRequest, which: str
) -> None:
    app: FastAPI = request.getfixturevalue(which)
    document, walked, protected = app.openapi(), set(), 0
    async with client(app) as api:
        for route in iter_route_contexts(app.routes):
            for method in sorted(route.methods or ()):
                assert route.path is not None
                item = document["paths"].get(_documented(route.path), {})
                declared = item.get(method.lower(), {}).get("security", [])
                answer = await api.request(method, _filled(route.path))
                needed = bool(declared) and {} not in declared
                assert (answer.status_code == 401) is needed, f"{method} {route.path}"
                assert answer.status_code < 500, f"{method} {route.path}"
                walked.add(f"{method.lower()} {_documented(route.path)}")
                protected += needed
    assert walked >= {where for where, _ in _operations(document)}
    assert protected >= 14


@pytest.mark.parametrize(
    "names", [("token",), ("basic",), ("session",), ("jwt", "basic"), ("token", "basic")], ids=str
)
async def test_routes_without_a_configured_strategy_are_omitted(
    make_settings: SettingsFactory, names: tuple[str, ...]
) -> None:
    app = create_app(make_settings(strategies=names, default_strategy=names[0], docs=True))
    document = app.openapi()
    assert all(document["paths"].values()), "no path without an operation"
    async with client(app) as api:
        for route in iter_route_contexts(app.routes):
            for method in sorted(route.methods or ()):
                assert route.path is not None
                item = document["paths"].get(_documented(route.path), {})
                operation = item.get(method.lower(), {})
                security = operation.get("security")
                dependant = getattr(route, "dependant", None)
                is_gated = dependant is not None and any(gates_of(dependant))
                assert security != [] or not is_gated, "which would mean public"
                answer = await api.request(method, _filled(route.path))
                needed = bool(security) and {} not in security
                assert (answer.status_code == 401) is needed, f"{method} {route.path}"
                if answer.status_code == 401:
                    assert answer.headers["www-authenticate"]
        expected = 404 if {"session", "jwt"}.isdisjoint(names) else 401
        assert (await api.get("/me/sessions")).status_code == expected
        assert ("/me/sessions" in document["paths"]) is (expected == 401)


async def test_public_routes_are_exactly_these(app: FastAPI) -> None:
    # An addition to this list makes a route public.
    paths = app.openapi()["paths"]
    public = {
        f"{method.upper()} {path}"
        for path, item in paths.items()
        for method, operation in item.items()
        if {} in (operation["security"] or [{}])
    }
    assert public == {
        "POST /register",
        "POST /email/confirm",  # by a secret from a mail, as the next ones
        "POST /email/confirm/request",
        "POST /email/undo",
        "POST /password/forgot",
        "POST /password/reset",
        "POST /invitation/accept",
        "POST /login",
        "POST /login/passkey",
        "POST /login/passkey/options",
        "POST /login/second-factor",  # by a ticket
        "POST /login/second-factor/options",
        *("POST /login/enrolment/totp", "POST /login/enrolment/totp/confirm"),  # by a ticket
        *("POST /login/enrolment/passkey", "POST /login/enrolment/passkey/options"),
        "POST /login/disown",  # by a secret from a mail
        "POST /token",
        "POST /token/revoke",
        "POST /tokens/leaked",  # signed by a scanner
        "GET /.well-known/passkey-endpoints",  # of the pages
        "GET /.well-known/jwks.json",
        "GET /.well-known/oauth-authorization-server",
        "GET /.well-known/oauth-protected-resource",
        "GET /health/live",
        "GET /health/ready",
    }


def test_security_of_each_route(own: FastAPI) -> None:
    paths = own.openapi()["paths"]
    read = ["reports:read"]
    expected: dict[str, list[dict[str, list[str]]] | None] = {
        "open": None,
        # Header strategies before the cookie, in the order of the settings or the route.
        "every": [{"token": []}, {"jwt": []}, {"basic": []}, {"session": []}],
        "one": [{"jwt": []}],
        "in_order": [{"jwt": []}, {"token": []}, {"session": []}],
        "optional": [{"token": []}, {"jwt": []}, {"basic": []}, {"session": []}, {}],
        "optional_one": [{"token": []}, {}],
        "scoped": [{"jwt": read}, {"token": read}],
        "scoped_cookie": [{"session": read}],
        "optional_scoped": [{"jwt": read}, {}],
        "strict": [{"jwt": []}],
        "same_twice": [{"jwt": []}],
        "in_common": [{"token": read}],
        # No common strategy: one credential for each gate, in one request.
        "both": [{"session": [], "token": []}, {"session": [], "jwt": []}],
        "optional_and_strict": [{"jwt": []}],
        "optional_twice": [{"jwt": []}, {}],
    }
    for name, security in expected.items():
        assert paths[f"/{name}"]["get"].get("security") == security, name
        assert paths[f"/{name}/{{number}}"]["post"].get("security") == security, name
    assert paths["/routed/inner/open"]["get"]["security"] == [{"token": []}, {"jwt": []}]
    assert paths["/routed/inner/mine"]["get"]["security"] == [{"token": []}]


async def test_each_declared_alternative_is_sufficient(own: FastAPI) -> None:
    """Each alternative of the documented security opens its route."""
    paths = own.openapi()["paths"]
    async with client(own) as api:
        alice = await api.create_user(is_superuser=True)
        cookie = await api.login(alice)
        headers = {"session": {"Cookie": cookie.headers["set-cookie"].partition(";")[0]}}
        for name in ("token", "jwt"):
            token = (await api.login(alice, strategy=name)).json()["access_token"]
            headers[name] = {"Authorization": f"Bearer {token}"}
        api.cookies.clear()
        del api.headers["Authorization"]
        tried = 0
        for path, item in paths.items():
            if "{" in path or path.startswith(("/me", "/logout", "/strict")):
                continue
            if item.get("get", {}).get("x-authapi-requires", {}).get("acr"):
                continue  # these logins have one factor
            for alternative in item.get("get", {}).get("security", []):
                if "basic" in alternative:
                    continue
                sent = {k: v for name in alternative for k, v in headers[name].items()}
                assert (await api.get(path, headers=sent)).status_code == 200, (path, alternative)
                tried += 1
    assert tried > 20


def test_each_strategy_has_one_security_scheme(app: FastAPI, own: FastAPI) -> None:
    schemes = app.openapi()["components"]["securitySchemes"]
    assert schemes.keys() == {*ALL, "client_secret"}
    assert {name: scheme["type"] for name, scheme in schemes.items()} == {
        "session": "apiKey",
        "token": "http",
        "jwt": "oauth2",
        "basic": "http",
        "client_secret": "http",
    }
    assert schemes["client_secret"]["scheme"] == "basic"
    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", "authapi")
    assert (schemes["token"]["scheme"], schemes["basic"]["scheme"]) == ("bearer", "basic")
    assert schemes["jwt"]["flows"] == {
        "password": {"tokenUrl": "token", "scopes": BUILT_IN | SCOPES}
    }
    assert own.openapi()["components"]["securitySchemes"] == schemes


def test_password_flow_exists_only_with_docs(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(docs=False))
    assert app.openapi_url is None
    jwt = app.openapi()["components"]["securitySchemes"]["jwt"]
    assert (jwt["type"], jwt["scheme"], jwt["bearerFormat"]) == ("http", "bearer", "JWT")


def test_cookie_scheme_has_the_real_cookie_name(make_settings: SettingsFactory) -> None:
    document = create_app(make_settings(public_url="https://auth.example.com")).openapi()
    assert document["components"]["securitySchemes"]["session"]["name"] == "__Host-authapi"


def test_unused_schemes_are_omitted(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings(strategies=ALL))
    app = FastAPI()
    auth.install(app, include=())
    assert "securitySchemes" not in app.openapi()["components"]
    app.get("/late", dependencies=[Depends(current_user("token"))])(lambda: None)
    document = app.openapi()
    assert document["components"]["securitySchemes"].keys() == {"token"}
    assert document["paths"]["/late"]["get"]["security"] == [{"token": []}]
    assert app.openapi() is document, "the document is generated once"


def test_documentation_of_the_importing_application_is_kept(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(title="Mine")
    auth.install(app)
    own_scheme = APIKeyHeader(name="X-Own", scheme_name="own")
    app.get("/own", dependencies=[Security(own_scheme)])(lambda: None)
    document = app.openapi()
    assert document["info"]["title"] == "Mine"
    assert document["paths"]["/own"]["get"]["security"] == [{"own": []}]
    assert document["components"]["securitySchemes"].keys() == {
        *("own", "session", "token", "jwt", "client_secret"),
    }


@pytest.mark.parametrize("which", ["app", "own"])
def test_requests_do_not_generate_the_document(request: pytest.FixtureRequest, which: str) -> None:
    app: FastAPI = request.getfixturevalue(which)
    found = 0
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if not isinstance(dependant, Dependant):
            continue
        for inner in _flat(dependant):
            assert not isinstance(inner.call, SecurityBase), route.path
            if isinstance(inner.call, Gate):
                found += 1
                needs = [inner.dependencies, inner.query_params, inner.header_params]
                needs += [inner.cookie_params, inner.path_params, inner.body_params]
                assert not any(needs), "a gate needs nothing but the connection"
    assert found >= 14


# Request bodies -----------------------------------------------------------------------------------


def test_every_string_in_a_body_has_a_maximum_length(app: FastAPI) -> None:
    document, found = app.openapi(), []
    for where, operation in _operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for path, schema in _strings(content["schema"], document, where):
                found.append(path)
                if "enum" in schema or "const" in schema:
                    continue
                assert isinstance(schema.get("maxLength"), int), path
                assert schema.get("pattern") or schema.get("format"), path
    assert len(found) >= 11, found


def test_every_parameter_has_a_limit(app: FastAPI) -> None:
    for where, operation in _operations(app.openapi()):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            if parameter["in"] in {"path", "query"} and schema.get("type") == "string":
                bounded = schema.get("maxLength") or schema.get("enum")
                assert bounded or schema.get("format") == "uuid", where


def test_bodies_refuse_unknown_members(app: FastAPI) -> None:
    document = app.openapi()
    names = {"Registration", "LoginRequest", "OwnChange", "PasswordChange", "NewToken", "NewJWT"}
    used = set()
    for _, operation in _operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        for choice in schema.get("anyOf", [schema]):
            used.add(choice.get("$ref", "").rpartition("/")[2])
    assert names <= used
    for name in names:
        assert document["components"]["schemas"][name]["additionalProperties"] is False, name


@pytest.mark.parametrize("audiences", [(), ("billing", "urn:reports")], ids=len)
def test_token_exchange_is_described_if_configured(
    make_settings: SettingsFactory, audiences: tuple[str, ...]
) -> None:
    settings = make_settings(jwt_audiences=audiences, jwt_lifetime=90)
    document = create_app(settings).openapi()
    operation, schemas = document["paths"]["/me/tokens"]["post"], document["components"]["schemas"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    answer = operation["responses"]["201"]["content"]["application/json"]["schema"]
    who = {name for alternative in operation["security"] for name in alternative}
    if not audiences:
        assert schemas.keys().isdisjoint({"NewJWT", "NewJWTOut"})
        assert body["$ref"].endswith("/NewToken")
        assert answer["$ref"].endswith("/NewTokenOut")
        assert who == {"session", "jwt"}
        return
    assert [item["$ref"].rpartition("/")[2] for item in body["anyOf"]] == ["NewToken", "NewJWT"]
    assert len(answer["anyOf"]) == 2
    assert who == {"session", "jwt", "token"}
    members = schemas["NewJWT"]["properties"]
    assert members["audience"]["enum"] == list(audiences)
    assert members["expires_in"]["anyOf"][0]["maximum"] == 90
    assert members["scopes"]["anyOf"][0]["maxItems"] == 0
    assert schemas["NewJWT"]["required"] == ["kind", "audience"]


@pytest.mark.parametrize(("least", "most"), [(15, 1024), (8, 64), (20, 256)])
def test_limits_of_passwords_follow_the_settings(
    make_settings: SettingsFactory, least: int, most: int
) -> None:
    settings = make_settings(password_min_length=least, password_max_length=most)
    schemas = create_app(settings).openapi()["components"]["schemas"]
    for schema, name, limits in (
        ("Registration", "password", (least, most)),
        ("PasswordChange", "new_password", (least, most)),
        # An existing password may have been chosen under other settings.
        ("PasswordChange", "current_password", (1, 1024)),
        ("LoginRequest", "password", (1, 1024)),
    ):
        field = schemas[schema]["properties"][name]
        assert (field["minLength"], field["maxLength"]) == limits, (schema, name)
        assert (field["format"], field["writeOnly"]) == ("password", True)


async def test_documented_limits_are_enforced(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(password_min_length=10, password_max_length=70))
    password = app.openapi()["components"]["schemas"]["Registration"]["properties"]["password"]
    least, most = password["minLength"], password["maxLength"]
    async with client(app) as api:
        for length, status in ((least - 1, 422), (least, 201), (most, 201), (most + 1, 422)):
            text = ("éáíóúñ wqmzrtkvbnpy" + "xjhgcfdlsaoe" * 10)[:length]
            body = {"email": f"of{length}@example.com", "password": text}
            assert (await api.post("/register", json=body)).status_code == status, length


# Structure of the document ------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["app", "own", "bare"])
def test_it_is_openapi_3_1(request: pytest.FixtureRequest, which: str) -> None:
    app = FastAPI(title="x") if which == "bare" else request.getfixturevalue(which)
    document = app.openapi()
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    seen: set[str] = set()
    for where, operation in _operations(document):
        assert operation["operationId"] not in seen, where
        seen.add(operation["operationId"])
        path = where.partition(" ")[2]
        declared = [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]
        assert sorted(declared) == sorted(re.findall(r"{(\w+)}", path)), where
        assert operation["responses"], where
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d|default", status), where
            assert response["description"], (where, status)
            for media in response.get("content", {}).values():
                assert media.keys() <= {"schema", "example", "examples"}, where
    for reference in _references(document):
        assert isinstance(_resolved(reference, document), dict), reference


def test_security_names_existing_schemes(app: FastAPI, own: FastAPI) -> None:
    for document in (app.openapi(), own.openapi()):
        schemes = document["components"]["securitySchemes"]
        for name, scheme in schemes.items():
            required = {
                "apiKey": {"in", "name"},
                "http": {"scheme"},
                "oauth2": {"flows"},
                "openIdConnect": {"openIdConnectUrl"},
            }[scheme["type"]]
            assert required <= scheme.keys(), name
            assert scheme["description"]
        for where, operation in _operations(document):
            for alternative in operation.get("security", []):
                assert alternative.keys() <= schemes.keys(), where
                for name, scopes in alternative.items():
                    if schemes[name]["type"] == "oauth2":
                        [flow] = schemes[name]["flows"].values()
                        assert set(scopes) <= flow["scopes"].keys(), where


def test_protected_routes_document_401(app: FastAPI) -> None:
    for where, operation in _operations(app.openapi()):
        refused = bool(operation.get("security")) or where.startswith("post /login")
        refused &= where not in {"post /login/disown", "post /login/passkey/options"}
        assert ("401" in operation["responses"]) is refused, where


def test_every_error_response_has_the_problem_schema(app: FastAPI) -> None:
    for where, operation in _operations(app.openapi()):
        is_oauth = where.split(" ")[1].split("/")[1] == "token"
        name = "OAuthError" if is_oauth else "Problem"
        kind = "application/json" if is_oauth else "application/problem+json"
        content = {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        for status, response in operation["responses"].items():
            if status[0] in "45":
                assert response["content"] == content, where


def test_internal_extensions_are_removed(app: FastAPI) -> None:
    text = str(app.openapi())
    assert "x-limit" not in text
    assert "HTTPValidationError" not in text


async def test_document_is_served_if_docs_are_enabled(make_settings: SettingsFactory) -> None:
    for docs in (True, False):
        app = create_app(make_settings(docs=docs))
        async with client(app) as api:
            alice = await api.create_user()
            with acting_as(alice):
                answer = await api.get("/openapi.json")
            assert answer.status_code == (200 if docs else 404)
            if docs:
                assert answer.json() == app.openapi()


def _documented(path: str) -> str:
    """The path in the document, which does not name the types of its parameters."""
    return re.sub(r":\w+}", "}", path)


def _filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", UNUSED_ID, path)


def _flat(dependant: Dependant) -> Iterator[Dependant]:
    for inner in dependant.dependencies:
        yield inner
        yield from _flat(inner)


def _operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method} {path}", item[method]


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _resolved(reference: str, document: Document) -> Any:
    assert reference.startswith("#/"), "nothing outside of the document"
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _strings(schema: Document, document: Document, path: str) -> Iterator[tuple[str, Document]]:
    """Yields every string schema below `schema` with its location."""
    if "$ref" in schema:
        yield from _strings(_resolved(schema["$ref"], document), document, path)
    if schema.get("type") == "string":
        yield path, schema
    for word in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(word, []):
            yield from _strings(inner, document, path)
    for name, inner in schema.get("properties", {}).items():
        yield from _strings(inner, document, f"{path} {name}")
    for word in ("items", "additionalProperties"):
        if isinstance(inner := schema.get(word), dict):
            yield from _strings(inner, document, f"{path} {word}")
