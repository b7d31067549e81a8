"""Valid e-mail addresses, and their canonical form."""

from collections.abc import Callable

import idna
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi import AuthAPI, create_app
from authapi.domain import email_address as module
from authapi.domain.email_address import (
    MAX_LENGTH,
    EmailAddress,
    EmailParser,
    parse_email,
    stored_email,
)
from authapi.errors import InvalidInput
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory

LONGEST = "a@b" + "b." * 124 + "com"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mike@example.org", "mike@example.org"),
        ("Mike@Example.ORG", "mike@example.org"),
        ("MIKE@EXAMPLE.ORG", "mike@example.org"),
        ("a+tag@example.com", "a+tag@example.com"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("a.b-c_d@sub.example.co.uk", "a.b-c_d@sub.example.co.uk"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("A@XN--Bcher-KVA.Example", "a@xn--bcher-kva.example"),
        # IDNA 2008 distinguishes these: they are different domains.
        ("a@faß.de", "a@xn--fa-hia.de"),
        ("a@fass.de", "a@fass.de"),
        ("a@ς.gr", "a@xn--3xa.gr"),
        ("a@σ.gr", "a@xn--4xa.gr"),
        # Cyrillic: a different domain, which is displayed differently.
        ("a@аррӏе.com", "a@xn--80ak6aa92e.com"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
        (LONGEST, LONGEST),
    ],
    ids=range(16),
)
def test_valid_address_has_one_canonical_form(text: str, canonical: str) -> None:
    found = parse_email(text)
    assert (found.original, found.canonical) == (text, canonical)
    assert parse_email(canonical).canonical == canonical


REFUSED = [
    # Letters that case mapping turns into ASCII letters.
    *("mıke@example.org", "MİKE@example.org", "\u212aelvin@example.org", "ſam@example.org"),
    # Lookalikes, full-width and half-width.
    *("ａ@example.com", "a＠example.com", "а@example.com", "é@example.com", "a\u0301@example.com"),
    # Domains that are valid only after a mapping, a different one for each.
    "a@Ⅷ.com",
    "a@ⅷ.com",
    "a@ｅxample.com",
    "a@\u212aelvin.org",
    "a@\u2126.gr",
    "a@BÜCHER.example",
    *("a@İ.com", "a@ΑΣ.gr", "a@STRAẞE.de", "a@example。com", "a@example．com", "a@example｡com"),
    "a@e\u0301.com",
    "a@exam\u00adple.com",
    "a@exam\u200bple.com",
    "a@exam\u200dple.com",
    "a@①.com",
    *("a@xn--.com", "a@xn--a.com", "a@xn--abc.com", "a@xn--bcher-kvA-.example", "a@ab--cd.com"),
    # Not exactly one address.
    *("Mike <mike@example.org>", "<mike@example.org>", "mike@example.org,eve@example.org"),
    "mike@example.org;eve@example.org",
    "mailto:mike@example.org",
    "mike@eve@example.org",
    "a@@b.com",
    '"mike"@example.org',
    '"a b"@example.com',
    '"@"@example.com',
    "a(b)@example.com",
    "a@(b)c.com",
    *("", "@", "a", "a@", "@example.com", "a.@example.com", ".a@example.com", "a..b@example.com"),
    # Control characters and spaces, which could end a header or a row.
    *(" a@example.com", "a@example.com ", "a b@example.com", "a@exam ple.com", "\ta@example.com"),
    *("a@example.com\n", "a@example.com\r\nBcc: eve@example.org", "a\r\n@example.com"),
    "a@b\n.com",
    "a\0@example.com",
    "a@exam\0ple.com",
    "a@example.com\0",
    "a\x7f@example.com",
    "a\u2028@b.com",
    *("\u202ea@example.com", "\ufeffa@example.com", "\ud800@example.com", "a@\udfff.com"),
    # Hosts that are not mail domains.
    "a@localhost",
    "a@example",
    "a@127.0.0.1",
    "a@[127.0.0.1]",
    "a@[IPv6:::1]",
    "a@1.2",
    "a@test",
    *("a@foo.test", "a@foo.invalid", "a@foo.localhost", "a@foo.local", "a@example.com.", "a@.com"),
    "a@a..com",
    "a@-a.com",
    "a@a-.com",
    "a@a_b.com",
    "a@a!b.com",
    "a@%65xample.com",
    "a@exa&mple.com",
    # Lengths.
    *("a" * 65 + "@example.com", "a@" + "b" * 64 + ".com", "a@b" + LONGEST[2:], "a" * 10_000),
    *("a@" + "ü" * 60 + ".com", "a@" + "ü." * 60 + "com", "a@" * 5_000, "a@" + "." * 250),
]


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_text_other_than_one_address_is_rejected(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_email(text, loc=("body", "address"))
    [problem] = caught.value.errors
    assert (problem.loc, problem.code) == (("body", "address"), "email_invalid")
    assert not text or len(text) < 3 or text not in problem.message


def test_maximum_length_is_254_ascii_characters() -> None:
    assert len(LONGEST) == MAX_LENGTH
    with pytest.raises(InvalidInput):
        parse_email("a" + LONGEST)


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20) | st.text(max_size=8).map("{}.com".format))
def test_canonical_form_is_plain_and_stable(local: str, domain: str) -> None:
    try:
        found = parse_email(f"{local}@{domain}")
    except InvalidInput:
        return
    canonical = found.canonical
    assert canonical.isascii()
    assert canonical.isprintable()
    assert canonical == canonical.lower()
    assert " " not in canonical
    assert parse_email(canonical).canonical == canonical
    # Nothing is mapped, except for the case of ASCII letters.
    assert canonical.partition("@")[0] == local.lower()
    read = idna.decode(canonical.partition("@")[2])
    assert read == "".join(c.lower() if c.isascii() else c for c in domain)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.text("abcABC019.+-_'", min_size=1, max_size=12),
    st.text("abcABC019.-ü", min_size=1, max_size=12),
)
def test_case_does_not_change_the_canonical_form(local: str, domain: str) -> None:
    try:
        lower = parse_email(f"{local.lower()}@{domain.lower()}.com").canonical
    except InvalidInput:
        return
    assert parse_email(f"{local}@{domain}.com").canonical == lower
    assert parse_email(f"{local.upper()}@{domain}.COM").canonical == lower


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("mike@example.org", "MIKE@Example.org"),
        ("a@bücher.example", "A@xn--bcher-kva.EXAMPLE"),
    ],
)
async def test_two_spellings_are_one_account(api_on_each: Client, first: str, second: str) -> None:
    user = await api_on_each.create_user(first)
    body = {"email": second, "password": "correct horse battery staple"}
    assert (await api_on_each.post("/register", json=body)).status_code == 409
    answer = await api_on_each.post("/login", json=body)
    assert answer.json()["user"] == {**answer.json()["user"], "id": str(user.id), "email": first}


async def test_lookalike_addresses_do_not_match_the_account(api_on_each: Client) -> None:
    await api_on_each.create_user("mike@example.org")
    await api_on_each.create_user("kelvin@example.org")
    for text in (
        "mıke@example.org",
        "MİKE@example.org",
        "\u212aelvin@example.org",
        "ｍike@example.org",
    ):
        body = {"email": text, "password": "correct horse battery staple"}
        for path in ("/register", "/login"):
            answer = await api_on_each.post(path, json=body)
            assert answer.status_code == 422
            assert text not in answer.text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Ada@Shop.TEST", "ada@shop.test"),
        ("ada@localhost", "ada@localhost"),
        ("ada@box.localhost", "ada@box.localhost"),
        ("ada@printer.local", "ada@printer.local"),
        ("ada@bücher.test", "ada@xn--bcher-kva.test"),
    ],
)
def test_a_reserved_address_needs_permission(text: str, canonical: str) -> None:
    with pytest.raises(InvalidInput):
        parse_email(text)
    found = parse_email(text, allow_reserved=True)
    assert (found.original, found.canonical) == (text, canonical)
    assert stored_email(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("a@test", "a@local", "a@host", "a@x.invalid", "a@x.onion", "a@x.arpa"),
        *("a@.test", "a@x..test", "a@-x.test", "a@x-.test", "a b@x.test", "a@ab--cd.test"),
        *("a@b@x.test", "a@Ⅷ.test", "ä@x.test", "a@" + "b." * 124 + "localhost"),
    ],
)
def test_permission_for_reserved_addresses_permits_nothing_else(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_email(text, allow_reserved=True)


async def test_the_setting_permits_reserved_addresses_everywhere(
    make_settings: SettingsFactory,
) -> None:
    changes = {"strategies": ("session", "jwt", "basic"), "login_identifier": "both"}
    allowing = make_settings(allow_reserved_addresses=True, password_grant="on", **changes)
    body = {"email": "Ada@shop.test", "password": PASSWORD}
    auth = AuthAPI(allowing)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with client(app) as api:
        registered = await api.post("/register", json={**body, "username": "ada"})
        assert (registered.status_code, registered.json()["email"]) == (201, "Ada@shop.test")
        assert (await api.post("/login", json=body)).status_code == 200
        named = {"username": body["email"], "password": PASSWORD}
        assert (await api.post("/login", json=named)).status_code == 200
        api.cookies.clear()
        form = {"grant_type": "password", **named}
        assert (await api.post("/token", data=form)).status_code == 200
        assert (await api.get("/me", auth=("ada@SHOP.test", PASSWORD))).status_code == 200
        ada = await auth.accounts.find_by_email("ada@shop.test")
        await auth.accounts.change_email(ada.id, "ada@localhost")
    # The account stays usable for its owner after the setting is off; new input is refused.
    async with client(create_app(make_settings(**changes))) as api:
        refused = await api.post("/register", json={**body, "email": "bob@shop.test"})
        assert refused.json()["errors"][0]["code"] == "email_invalid"
        login = await api.post("/login", json={"username": "ada", "password": PASSWORD})
        assert login.json()["user"]["email"] == "ada@localhost"
        assert (await api.patch("/me", json={"name": "Ada"})).status_code == 200


DOMAINS = [
    "example.com",
    "EXAMPLE.com",
    "localhost",
    "a.test",
    "faß.de",
    "xn--fa-hia.de",
    "b..c",
    "",
]
LOCALS = st.one_of(
    st.text(st.sampled_from("aB9.+'\"\\ _-ü@"), max_size=12),
    st.sampled_from(["a" * 64, "a" * 65, "A.b-c_d", "a\n", "\u0661", "_", "ſam"]),
)
ADDRESSES = st.one_of(
    st.builds("{}@{}".format, LOCALS, st.sampled_from(DOMAINS)),
    st.builds("{}@{}.com".format, LOCALS, st.text(st.sampled_from("abX.-"), max_size=250)),
    st.sampled_from([LONGEST, f"a{LONGEST}", *REFUSED]),
    st.text(max_size=20),
)


def result(parse: Callable[[str], EmailAddress], text: str) -> object:
    try:
        return parse(text)
    except InvalidInput as refusal:
        return refusal.errors


@given(st.lists(ADDRESSES, min_size=1, max_size=20), st.booleans())
@settings(max_examples=300)
def test_a_parser_of_many_addresses_decides_as_for_one(texts: list[str], reserved: bool) -> None:
    parser = EmailParser(allow_reserved=reserved)
    for text in [*texts, *texts]:
        assert result(parser.parse, text) == result(
            lambda it: parse_email(it, allow_reserved=reserved), text
        )


def test_a_parser_of_many_addresses_checks_a_domain_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    parse = module.parse_email

    def noted(text: str, *, allow_reserved: bool) -> EmailAddress:
        seen.append(text)
        return parse(text, allow_reserved=allow_reserved)

    monkeypatch.setattr(module, "parse_email", noted)
    parser = EmailParser()
    for number in range(5):
        assert parser.parse(f"P{number}@Example.com").canonical == f"p{number}@example.com"
    assert seen == ["a@Example.com"]
    for number in range(2 * module._MAX_DOMAINS):
        parser.parse(f"a@example{number}.com")
    assert parser._canonical_domain.cache_info().currsize == module._MAX_DOMAINS
