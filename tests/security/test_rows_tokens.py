"""Known vulnerabilities of other products (rows 1 to 15): JWTs, all rejected in the same way."""

import ast
import base64
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

import authapi
from authapi import create_app
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import (
    FOREIGN,
    KEY,
    SECRET,
    b64,
    basic,
    bearer,
    claims_of,
    comparable,
    cookie,
    forge,
    header,
    mac,
    public_key_spellings,
)
from tests.servers.forked import Forking

SIGN = KEY.key.sign


@dataclass
class Target:
    """A service, and the claims of one valid token."""

    api: Client
    token: str
    claims: dict[str, object]

    async def refuses(self, tokens: Mapping[str, str]) -> None:
        """Each of `tokens` gets the same response as garbage. The valid token remains valid."""
        garbage = comparable(await self.api.get("/me", headers=bearer("a.b.c")))
        assert garbage[0] == 401
        for reason, token in tokens.items():
            answer = await self.api.get("/me", headers=bearer(token))
            assert comparable(answer) == garbage, reason
        assert (await self.api.get("/me", headers=bearer(self.token))).status_code == 200

    def signed(self, changes: Mapping[str, object] | bytes, **head: object) -> str:
        """A token with a valid signature and changed claims; bytes replace the whole payload."""
        if isinstance(changes, bytes):
            return forge(header(**head), changes)
        return forge(header(**head), self.claims | dict(changes))

    def written(self, name: str, text: str) -> str:
        """A token with a valid signature in which a claim has this JSON text as its value."""
        others = {key: value for key, value in self.claims.items() if key != name}
        return self.signed(f'{json.dumps(others)[:-1]},"{name}":{text}}}'.encode())


@pytest.fixture
async def target(make_settings: SettingsFactory) -> AsyncIterator[Target]:
    """The application with a secret that these tests know."""
    settings = make_settings(secret=SECRET, strategies=("session", "token", "jwt", "basic"))
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
        token = (await api.post("/login", json=body)).json()["access_token"]
        target = Target(api, token, claims_of(token))
        # An unchanged token of these tests is accepted, so each rejection is due to the change.
        made = await api.get("/me", headers=bearer(target.signed({})))
        assert made.status_code == 200
        yield target


async def test_row_01_hmac_with_the_public_key_is_rejected(target: Target) -> None:
    await target.refuses(
        {
            f"the secret is the {form}": forge(header(alg="HS256"), target.claims, mac(secret))
            for form, secret in public_key_spellings().items()
        }
    )


async def test_row_02_hmac_with_the_binary_public_key_is_rejected(target: Target) -> None:
    spellings = public_key_spellings()
    await target.refuses(
        {
            f"{form}, {alg}, {kid}": forge(
                header(alg=alg, kid=kid), target.claims, mac(spellings[form])
            )
            for form in ("DER", "X9.62", "X9.62 compressed")
            for alg in ("HS256", "ES256")
            for kid in (KEY.verifying.kid, "", "k")
        }
    )


async def test_row_03_header_does_not_choose_the_algorithm(target: Target) -> None:
    hashes = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}
    await target.refuses(
        {
            f"{alg} by the {form}": forge(header(alg=alg), target.claims, mac(secret, digest))
            for form, secret in public_key_spellings().items()
            for alg, digest in hashes.items()
        }
        | {
            f"{alg} over our own signature": target.signed({}, alg=alg)
            for alg in ("RS256", "PS256", "ES384", "EdDSA", "S256", "es256", ["ES256"], {"a": 1})
        }
    )


async def test_row_04_algorithm_none_is_rejected(target: Target) -> None:
    spellings: list[object] = ["none", "None", "NONE", "nOnE", "none\0", "", ["none"], None, 0]
    signers = {"nothing": lambda _: b"", "our signature": SIGN, "one byte": lambda _: b"\0"}
    await target.refuses(
        {
            f"{alg!r} and {name}": forge(header(alg=alg), target.claims, sign)
            for alg in spellings
            for name, sign in signers.items()
        }
        | {
            f"no alg and {name}": forge(
                {"typ": "at+jwt", "kid": KEY.verifying.kid}, target.claims, sign
            )
            for name, sign in signers.items()
        }
    )


async def test_row_05_unknown_crit_is_rejected(target: Target) -> None:
    await target.refuses(
        {
            "unknown": target.signed({}, crit=["x"], x=1),
            "named only": target.signed({}, crit=["x"]),
            "unencoded payload": target.signed({}, crit=["b64"], b64=False),
            "empty": target.signed({}, crit=[]),
            "known claim": target.signed({}, crit=["exp"]),
            "text": target.signed({}, crit="exp"),
            "null": target.signed({}, crit=None),
        }
    )


async def test_row_06_key_in_the_header_is_rejected(target: Target) -> None:
    own = dict(FOREIGN.verifying.jwk)
    members: dict[str, object] = {
        "jwk": own,
        "jku": "http://127.0.0.1:9/jwks.json",
        "x5u": "http://127.0.0.1:9/cert",
        "x5c": [base64.b64encode(b"a certificate").decode()],
    }
    tokens = {}
    for name, value in members.items():
        for kid in (KEY.verifying.kid, FOREIGN.verifying.kid):
            head = header(kid=kid) | {name: value}
            tokens[f"{name}, {kid}, own key"] = forge(head, target.claims, FOREIGN.key.sign)
            tokens[f"{name}, {kid}, our key"] = forge(head, target.claims)
    await target.refuses(tokens)


async def test_row_07_key_id_is_only_looked_up(target: Target) -> None:
    kids: list[object] = ["../../dev/null", "/dev/null", "' OR '1'='1", "x\0", "x" * 4000, 7, -1]
    kids += [[KEY.verifying.kid], {"a": 1}, None, True, "", KEY.verifying.kid.lower()]
    tokens = {}
    for kid in kids:
        tokens[f"{kid!r:.20} and an empty key"] = forge(
            header(alg="HS256", kid=kid), target.claims, mac(b"")
        )
        tokens[f"{kid!r:.20} and our signature"] = target.signed({}, kid=kid)
    tokens["no kid"] = forge({"alg": "ES256", "typ": "at+jwt"}, target.claims)
    await target.refuses(tokens)


async def test_row_08_compression_bomb_is_rejected(target: Target) -> None:
    head = b64(json.dumps({"alg": "dir", "enc": "A128GCM", "zip": "DEF"}).encode())
    bomb = b64(zlib.compress(bytes(4_000_000)))
    assert len(bomb) < 6000
    await target.refuses(
        {
            "five segments": f"{head}..{b64(bytes(12))}.{bomb}.{b64(bytes(16))}",
            "three segments": f"{head}.{bomb}.{b64(bytes(64))}",
            "signed": target.signed(zlib.compress(bytes(4_000_000)), zip="DEF"),
        }
    )


@pytest.mark.parametrize("depth", [1000, 2000, 12_000, 40_000])
@pytest.mark.parametrize("wide", [False, True], ids=["default limits", "wide limits"])
async def test_row_09_garbage_is_rejected_without_a_crash(
    make_settings: SettingsFactory, depth: int, wide: bool
) -> None:
    limits = {"max_credential_bytes": 1 << 20, "max_header_bytes": 1 << 20} if wide else {}
    async with client(create_app(make_settings(secret=SECRET, **limits))) as api:
        for nested in (b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth):
            for token in (
                f"{b64(nested)}.e30.e30",
                forge(header(), nested),
                forge(nested, b"{}"),
            ):
                answer = await api.get("/me", headers=bearer(token))
                fits = len(token) + len("Bearer ") <= 8192
                assert answer.status_code == (401 if wide or fits else 431)


async def test_row_10_invalid_times_are_rejected(target: Target) -> None:
    texts = ["1e999", "-1e999", "NaN", "Infinity", "null", "[]", "{}", "true", '"9"', "-1", '""']
    texts += [str(1 << 63), '"9999999999"', '" 9_999_999_999 "', '"٩٩٩٩٩٩٩٩٩٩"', "[9999999999]"]
    await target.refuses(
        {
            f"{name} is {text}": target.written(name, text)
            for name in ("exp", "nbf", "iat")
            for text in texts
            if (name, text) != ("nbf", "-0")
        }
        | {
            "no exp": forge(header(), {k: v for k, v in target.claims.items() if k != "exp"}),
            "exp is now": target.signed({"exp": target.claims["iat"]}),
        }
    )


async def test_row_11_an_encrypted_token_looks_like_garbage(target: Target) -> None:
    tokens = {}
    for alg in ("RSA1_5", "RSA-OAEP", "dir", "A256KW", "ECDH-ES", "PBES2-HS256+A128KW"):
        for enc in ("A128CBC-HS256", "A256GCM"):
            head = b64(json.dumps({"alg": alg, "enc": enc, "kid": KEY.verifying.kid}).encode())
            parts = (b64(bytes(256)), b64(bytes(16)), b64(bytes(48)), b64(bytes(16)))
            tokens[f"{alg} {enc}"] = ".".join((head, *parts))
    await target.refuses(tokens)
    # The package contains no code for JWE.
    for path in Path(authapi.__file__).parent.rglob("*.py"):
        names = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not any("jwe" in name for name in names), path


@pytest.mark.parametrize("secret", ["x" * 31, "short"])
def test_row_12_weak_secret_prevents_the_start(
    tmp_path: Path, forking: Forking, secret: str
) -> None:
    # All signing keys are P-256. Only the secret could be weak.
    done = forking.run(
        ["serve", "--port", "0"],
        {"AUTHAPI_SECRET": secret, "AUTHAPI_DATA_DIR": str(tmp_path / "data")},
        tmp_path,
    )
    assert done.returncode not in (0, None)
    [line] = done.stderr.splitlines()
    assert "AUTHAPI_SECRET" in line.upper()
    assert secret not in line


async def test_row_13_issuer_and_audience_are_compared_exactly(target: Target) -> None:
    tokens = {}
    for name in ("iss", "aud"):
        whole = str(target.claims[name])
        values: list[object] = [whole[:-1], whole[1:], whole + "/", whole + "x", "x" + whole]
        values += [whole.upper(), whole + " ", whole[3:6], "", None, 1, {whole: whole}, [[whole]]]
        values += [f"{whole} other", f"{whole},other"]
        values.append([whole] if name == "iss" else [whole[:-1], "other"])
        for value in values:
            tokens[f"{name} is {value!r}"] = target.signed({name: value})
        tokens[f"no {name}"] = forge(
            header(), {key: value for key, value in target.claims.items() if key != name}
        )
    await target.refuses(tokens)


async def test_row_14_each_credential_is_accepted_for_its_own_use_only(target: Target) -> None:
    api = target.api
    alice = await api.create_user()
    made: dict[str, str] = {}
    for strategy in ("session", "token", "jwt"):
        body = {"email": alice.email, "password": PASSWORD, "strategy": strategy}
        answer = await api.post("/login", json=body)
        made[strategy] = answer.cookies.get("authapi") or answer.json()["access_token"]
        api.cookies.clear()
    wanted = {"name": "script"}
    answer = await api.post("/me/tokens", json=wanted, headers=bearer(made["jwt"]))
    made |= {"personal": answer.json()["access_token"], "password": PASSWORD}
    made |= {"session id": claims_of(made["jwt"])["sid"], "user id": str(alice.id)}
    diagonal = {("session", "cookie"), ("password", "basic")}
    diagonal |= {(kind, "bearer") for kind in ("token", "jwt", "personal")}
    for kind, secret in made.items():
        forms = {
            "cookie": cookie(secret),
            "bearer": bearer(secret),
            "basic": basic(alice.email, secret),
            "basic user": basic(secret, ""),
            "basic token": {b"authorization": b"Basic " + secret.encode()},
            "token scheme": {b"authorization": b"Token " + secret.encode()},
        }
        for form, headers in forms.items():
            expected = 200 if (kind, form) in diagonal else 401
            answer = await api.get("/me", headers=headers)
            assert answer.status_code == expected, (kind, form)
    types: list[object] = [
        "JWT",
        "refresh+jwt",
        "id_token",
        "logout+jwt",
        "at+JWT",
        None,
        ["at+jwt"],
    ]
    await target.refuses(
        {f"typ is {typ}": target.signed({}, typ=typ) for typ in types}
        | {"sid of a cookie": target.signed({"sid": str(uuid4())})}
    )
