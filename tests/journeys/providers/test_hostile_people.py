"""What people are called at a provider, and what it says of them, wherever that is shown."""

import re
import unicodedata
from collections.abc import Iterator, Mapping

import pytest

from tests.journeys.providers.service import (
    NAVIGATION,
    PASSWORD,
    Place,
    Service,
    Visitor,
    new_name,
    outcome_of,
)

pytestmark = pytest.mark.slow

ROOT = "root@example.com"
MARKUP = "<script>alert(1)</script>\"'&{{ 7 * 7 }}%s"
BIDI, ZERO_WIDTH, ANSI = "\u202egnp.exe\u2066", "a\u200bb\u2060c", "\x1b[31mred\x1b[0m"
NAMES: Mapping[str, object] = {
    "markup": MARKUP,
    "bidi": f"Jane {BIDI}",
    "zero width": ZERO_WIDTH,
    "terminal": ANSI,
    "newline": "Jane\r\nBcc: evil@example.com\r\n\r\nHello",
    "tab": "Jane\tDoe",
    "separator": "Jane\u2028Doe\u0085",
    "long": "x" * 10_000,
    "long and wide": "\U0001f468\u200d\U0001f469" * 150,
    "combining": "e" + "\u0301" * 500,
    "formula": '=HYPERLINK("https://evil.example")',
    "format": "%s%n{0}{0.__class__}",
    "blank": " \u3000 ",
    "empty": "",
    "number": 7,
    "list": ["Jane", "Doe"],
    "object": {"a": {"b": "c"}},
    "true": True,
}
NESTED: list[object] = []
for _ in range(300):
    NESTED = [NESTED]
REFUSED: Mapping[str, dict[str, object]] = {
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "blank subject": {"sub": " "},
    "padded subject": {"sub": " jane "},
    "numeric subject": {"sub": 12345678901234567890},
    "float subject": {"sub": 1e20},
    "list of subjects": {"sub": ["a"]},
    "true": {"sub": True},
    "long subject": {"sub": "s" * 256},
    "subject with a newline": {"sub": "jane\nroot"},
    "subject with a nul": {"sub": "jane\x00"},
    "bidi subject": {"sub": BIDI},
    "name with a nul": {"name": "Jane\x00Doe"},
    "address with a nul": {"email": "jane@example.com\x00"},
    "name with half a character": {"name": "Jane \ud800"},
    "terminal subject": {"sub": ANSI},
    "surrogate subject": {"sub": "\ud800"},
    "deep": {"about": NESTED},
}
ADDRESSES: tuple[object, ...] = (
    {"a": 1},
    ["jane@example.com"],
    7,
    True,
    "",
    "jane",
    "jane@example.com\nBcc: evil@example.com",
    f"{BIDI}@example.com",
    "a@b@example.com",
    f"{'x' * 10_000}@example.com",
    '"><script>"@example.com',
)


@pytest.fixture(scope="module")
def administrator(place: Place) -> Iterator[Visitor]:
    """The browser of a superuser."""
    made = place.service.command("users", "create", "--superuser", ROOT, stdin=PASSWORD)
    assert made.returncode == 0, made.stderr
    with Visitor(place.service.url) as browser:
        browser.log_in(ROOT)
        yield browser


def check_harmless(text: str, where: str) -> None:
    """Checks that a text has nothing that a browser, a terminal or a mail program would obey."""
    shown = {it for it in text if unicodedata.category(it) in {"Cc", "Zl", "Zp", "Cs"}}
    assert shown <= {"\n", "\r"}, f"{sorted(map(ascii, shown))} in {where}"


def check_everywhere(service: Service, browser: Visitor, root: Visitor, where: str) -> None:
    user = browser.get("/me").json()["id"]
    for path in ("/account", "/account/security", "/account/data"):
        answer = browser.get(path, headers=NAVIGATION)
        assert answer.status_code == 200, (where, path, answer.status_code)
        check_harmless(answer.text, f"{where}: {path}")
        assert "<script>alert" not in answer.text, (where, path)
    for path in (f"/console/people/{user}", "/console/people", f"/console/events?user={user}"):
        answer = root.get(path, headers=NAVIGATION)
        assert answer.status_code == 200, (where, path, answer.status_code)
        check_harmless(answer.text, f"{where}: {path}")
        assert "<script>alert" not in answer.text, (where, path)
    for answer in (browser.get("/me"), browser.get("/me/identities"), browser.get("/me/export")):
        assert answer.status_code == 200, answer.text
    for answer in (root.get(f"/admin/users/{user}"), root.get(f"/admin/users/{user}/identities")):
        assert answer.status_code == 200, answer.text


def test_a_person_with_any_name_logs_in(place: Place, administrator: Visitor) -> None:
    for kind, name in NAMES.items():
        person = f"{new_name()}x" if kind != "markup" else MARKUP
        email = f"{new_name()}@example.com"
        place.acme.about[person] = {"name": name, "email": email}
        with Visitor(place.service.url) as browser:
            assert outcome_of(browser.log_in_at(person)) == "in", kind
            me = browser.get("/me").json()
            assert me["email"] == email
            assert me["name"] is None or len(me["name"]) <= 200, kind
            check_everywhere(place.service, browser, administrator, kind)
            # A second person, so that a mail is written.
            callback = browser.at_provider(browser.begin_link("other", to="/linked"), person)
            assert outcome_of(browser.come_back(callback)) == "to /linked"
    for arguments in (("users", "list"), ("users", "list", "--plain")):
        done = place.service.command(*arguments)
        assert done.returncode == 0, done.stderr
        check_harmless(done.stdout.replace("\t", ""), " ".join(arguments))
    mails = place.service.mails(len(NAMES))
    assert not re.search(r"^Bcc:", mails, re.MULTILINE)
    check_harmless(place.service.process.output(), "the log")


@pytest.mark.parametrize("kind", list(REFUSED))
def test_a_person_without_a_usable_subject_is_refused(place: Place, kind: str) -> None:
    person = new_name()
    place.acme.about[person] = REFUSED[kind]
    with Visitor(place.service.url) as browser:
        assert outcome_of(browser.log_in_at(person)) == "provider-answer-refused"
        assert browser.me() is None


def test_text_that_is_no_address_is_asked_for(place: Place) -> None:
    for address in ADDRESSES:
        person = new_name()
        place.acme.about[person] = {"email": address}
        with Visitor(place.service.url) as browser:
            ended = outcome_of(browser.log_in_at(person))
            assert ended.endswith("sign-in/address"), (address, ended)
            assert browser.me() is None
