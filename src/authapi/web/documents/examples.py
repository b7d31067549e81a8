"""Examples of the bodies of our routes in the OpenAPI document.

They are made from the finished schemas, so they have the members that the settings allow. A member
has the example of its field, or else a value for its name or its type.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from authapi.web.answers.descriptions import Document

_ID = "01a22621-a7db-7998-9d05-25072fffc9bc"
_TIME = "2026-11-23T08:00:00.000000Z"
_BY_FORMAT = {
    "uuid": _ID,
    "date-time": _TIME,
    "uri": "https://auth.example.com/me",
    "email": "alice@example.com",
}
_BY_TYPE: Mapping[str, object] = {"boolean": False, "integer": 1, "number": 1, "object": {}}
# No value is a secret that a scanner would report.
_OPAQUE = "aat_EXAMPLE"
_JWT = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.EXAMPLE.EXAMPLE"
_REFRESH = "art_EXAMPLE"
_BINARY = "ZXhhbXBsZQ"
_ISSUER = "https://auth.example.com"
_BY_NAME: Mapping[str, object] = {
    "access_token": _OPAQUE,
    "acr": "urn:authapi:acr:2",
    "aaguid": "fbfc3007-154e-4ecc-8c0b-6e020557d7bd",
    "active": True,
    "alg": -7,
    "amr": ["pwd", "otp", "mfa"],
    "attestation": "none",
    "aud": [_ISSUER],
    "audience": "billing",
    "authorization_servers": [_ISSUER],
    "bearer_methods_supported": ["header"],
    "challenge": _BINARY,
    "client_id": _ID,
    "client_secret": _OPAQUE,
    "credential_id": _BINARY,
    "current": True,
    "data": {"theme": "dark"},
    "detail": {"amr": ["pwd"]},
    "displayName": "Alice Example",
    "email_confirmed_at": _TIME,
    "expires_in": 2592000,
    "grant_types_supported": ["refresh_token"],
    "iat": 1795680000,
    "introspection_endpoint": f"{_ISSUER}/token/introspect",
    "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
    "id": _BINARY,
    "ip": "203.0.113.7",
    "is_active": True,
    "is_synced": True,
    "iss": _ISSUER,
    "issuer": _ISSUER,
    "jti": _ID,
    "jwks_uri": f"{_ISSUER}/.well-known/jwks.json",
    "locale": "en",
    "mfa": True,
    "name": "Alice Example",
    "next": None,
    "outcome": "success",
    "qr_svg": None,
    "refresh_expires_in": 2592000,
    "refresh_token": _REFRESH,
    "request_id": "1480654407de3e54000004199bcaf119",
    "resource": _ISSUER,
    "resource_documentation": f"{_ISSUER}/docs",
    "resource_name": "Example",
    "response_types_supported": [],
    "roles": [],
    "revocation_endpoint": f"{_ISSUER}/token/revoke",
    "revocation_endpoint_auth_methods_supported": ["none"],
    "scope": "introspect",
    "scopes": [],
    "scopes_supported": ["introspect"],
    "service_documentation": f"{_ISSUER}/docs",
    "sid": _ID,
    "strategy": "session",
    "sub": _ID,
    "timeout": 300000,
    "token": _OPAQUE,
    "token_endpoint": f"{_ISSUER}/token",
    "token_endpoint_auth_methods_supported": ["none"],
    "transports": ["internal", "hybrid"],
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "userHandle": _BINARY,
}
_BY_SCHEMA: Mapping[str, Mapping[str, object]] = {
    "EmailChange": {"email": "alice@example.org"},
    "Invitation": {"email": "bob@example.com", "name": "Bob Example"},
    "JWKSetOut": {
        "keys": [
            {
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
                "use": "sig",
                "alg": "ES256",
                "kid": "2026-11-23",
            }
        ]
    },
    "NewTokenOut": {"name": "backup script"},
    "PasskeyOut": {"name": "My laptop"},
    "PasskeyUserOut": {"name": "alice@example.com"},
    "PersonalTokenOut": {"name": "backup script"},
    "RelyingPartyOut": {"name": "Example"},
    "NewJWTOut": {"access_token": _JWT, "expires_in": 900},
    "TokenOut": {"access_token": _JWT, "expires_in": 900},
}
_OMITTED: Mapping[str, tuple[str, ...]] = {
    "LoginEnrolment": ("ticket",),
    "LoginConfirmation": ("ticket",),
    "WaitingLogin": ("ticket",),
    "SecondFactor": ("ticket",),
    "FirstPasskey": ("ticket",),
    "Registration": ("locale",),
}
"""Members that a browser, which has a cookie, or a first try leaves out."""
_LOGINS: Mapping[str, Mapping[str, object]] = {
    "session": {},
    "token": {"access_token": _OPAQUE, "token_type": "bearer", "expires_in": 2592000},
    "jwt": {
        "access_token": _JWT,
        "token_type": "bearer",
        "expires_in": 900,
        "refresh_token": _REFRESH,
        "refresh_expires_in": 2592000,
    },
}
_EVENT = "AdminEventOut"
_EVENT_FILES = ("text/csv", "application/jsonl")
"""The exports of events, which have no schema."""
_REFERENCE = "#/components/schemas/"


def add_examples(operations: Iterable[Document], schemas: Document) -> None:
    """Adds examples to the bodies of the requests and of the successful responses."""
    requests = _Examples(schemas, shows_all=False)
    answers = _Examples(schemas, shows_all=True)
    for operation in operations:
        requests.add_to_contents(operation.get("requestBody", {}))
        for status, response in operation.get("responses", {}).items():
            if status.startswith("2"):
                answers.add_to_contents(response)


class _Examples:
    """Makes examples for schemas of one document; with `shows_all`, with all optional members."""

    def __init__(self, schemas: Document, *, shows_all: bool) -> None:
        self._schemas, self._shows_all = schemas, shows_all

    def add_to_contents(self, body: Document) -> None:
        """Adds the examples of a request body or a response."""
        for media_type, media in body.get("content", {}).items():
            self._add_to(media, media_type)

    def _add_to(self, media: Document, media_type: str) -> None:
        if media.keys() & {"example", "examples"}:
            return
        if "schema" not in media:
            if media_type in _EVENT_FILES and _EVENT in self._schemas:
                media["example"] = self._event_file(media_type)
            return
        forms = dict(self._forms(media["schema"]))
        if len(forms) == 1:
            [media["example"]] = forms.values()
        else:
            media["examples"] = {name: {"value": value} for name, value in forms.items()}

    def _event_file(self, media_type: str) -> str:
        event = self._object(_EVENT, self._schemas[_EVENT])
        if media_type != "text/csv":
            return json.dumps(event) + "\n"
        cells = [
            json.dumps(value) if isinstance(value, dict) else value for value in event.values()
        ]
        file = io.StringIO()
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([event, cells])
        return file.getvalue()

    def _forms(self, schema: Document) -> Iterator[tuple[str, object]]:
        """Yields an example of each form of a body, with its name."""
        name, schema = self._resolved(schema)
        choices = schema.get("oneOf", schema.get("anyOf", ()))
        if "discriminator" in schema:
            for strategy, reference in schema["discriminator"]["mapping"].items():
                base = self._object(*self._resolved({"$ref": reference}))
                base = {key: base[key] for key in base if key not in _LOGINS["jwt"]}
                yield strategy, {**base, "strategy": strategy, **_LOGINS.get(strategy, {})}
        elif "if" in schema:
            yield from self._conditional_forms(schema)
        elif "properties" in schema and choices:
            # One of several members: each form has one of them.
            one_of = {item for choice in choices for item in choice["required"]}
            for choice in choices:
                [member] = choice["required"]
                without = one_of - {member}
                yield member, self._object(name, schema, without=without, needs=member)
        elif choices:
            for choice in choices:
                inner, resolved = self._resolved(choice)
                yield resolved.get("title", inner), self._value("", choice)
        else:
            yield name, self._value("", schema, name)

    def _conditional_forms(self, schema: Document) -> Iterator[tuple[str, object]]:
        """Yields a form for each value of the member that decides which others are required."""
        [(member, condition)] = schema["if"]["properties"].items()
        for value in schema["properties"][member]["enum"]:
            is_met = value == condition["const"]
            one, other = (schema["then"], schema["else"])[:: 1 if is_met else -1]
            required = [*schema["required"], *one["required"]]
            found = self._object("", {**schema, "required": required}, without=other["required"])
            yield value, {**found, member: value}

    def _resolved(self, schema: Document) -> tuple[str, Document]:
        reference = schema.get("$ref", "")
        if not reference:
            return "", schema
        name = reference.removeprefix(_REFERENCE)
        return name, self._schemas[name]

    def _object(
        self, name: str, schema: Document, *, without: Iterable[str] = (), needs: str = ""
    ) -> Document:
        required = {*schema.get("required", ()), needs}
        omitted = {*_OMITTED.get(name, ()), *without}
        found = {
            member: self._value(member, field)
            for member, field in schema.get("properties", {}).items()
            if member not in omitted and (member in required or self._is_useful(field))
        }
        better = _BY_SCHEMA.get(name, {})
        return {member: better.get(member, value) for member, value in found.items()}

    def _is_useful(self, field: Document) -> bool:
        """Whether an optional member is worth showing."""
        if self._shows_all or field.keys() & {"examples", "const"}:
            return True
        choices = field.get("anyOf", ())
        return field.get("type") == "boolean" or any("examples" in choice for choice in choices)

    def _value(self, member: str, schema: Document, name: str = "") -> Any:
        reference, schema = self._resolved(schema)
        name = reference or name
        for word in ("examples", "enum"):
            if schema.get(word):
                return _long_enough(schema[word][0], schema)
        if "const" in schema:
            return schema["const"]
        if "properties" in schema:
            return self._object(name, schema)
        choices: list[Document] = schema.get("anyOf") or schema.get("oneOf") or []
        for choice in choices:
            if choice.keys() & {"examples", "enum"}:
                return self._value(member, choice)
        items = schema.get("items", {})
        if "examples" in items or "enum" in items:
            return [self._value("", items)]
        if _fits(member, schema):
            return _BY_NAME[member]
        if choices:
            return self._value(member, choices[0])
        if schema.get("type") == "array":
            return [self._value("", items)] if items else []
        return _plain(schema)


def _fits(member: str, schema: Document) -> bool:
    """Whether the value for this name has the type of the member."""
    if member not in _BY_NAME or schema.get("format", "password") != "password":
        return False
    types = {choice.get("type") for choice in schema.get("anyOf", (schema,))}
    value = _BY_NAME[member]
    python = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}
    return ("null" if value is None else python[type(value)]) in types


def _plain(schema: Document) -> object:
    kind = schema.get("type", "string")
    if kind == "string":
        return _long_enough(_BY_FORMAT.get(schema.get("format", ""), "text"), schema)
    if kind in {"integer", "number"}:
        return schema.get("minimum", _BY_TYPE[kind])
    return _BY_TYPE.get(kind)


def _long_enough(value: object, schema: Document) -> object:
    """Returns the value, with the length that the settings ask of a password."""
    return value.ljust(schema.get("minLength", 0), "!") if isinstance(value, str) else value
