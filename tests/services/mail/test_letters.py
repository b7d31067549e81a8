"""Mail as it is written: words, languages, headers, and what nobody can put into them."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import time_machine

from authapi.crypto.ids import new_id
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.services.mail.letters import SHIPPED, Letters, example, fallbacks
from authapi.services.mail.links import link_of
from authapi.services.mail.occasions import Occasion
from authapi.storage.tables.outbox import Entry
from tests.conftest import SettingsFactory

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
EVERY = [(locale, occasion) for locale in ("en", "ko") for occasion in Occasion]


def entry(occasion: Occasion = Occasion.TOKEN_CREATED) -> Entry:
    return Entry(new_id(), "mail", occasion.value, None, b"", AT, AT, AT)


def payload(**changes: Any) -> dict[str, Any]:
    return {**example("en", to="Alice@example.com"), **changes}


def parsed(message: EmailMessage) -> EmailMessage:
    """As whoever gets it reads it: from its bytes."""
    found = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def bodies(message: EmailMessage) -> tuple[str, str]:
    text, page = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert page is not None
    return text.get_content().replace("\r\n", "\n"), page.get_content().replace("\r\n", "\n")


class Page(HTMLParser):
    """The tags, links and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(("locale", "occasion"), EVERY)
def test_each_mail_in_each_language(
    make_settings: SettingsFactory, locale: str, occasion: Occasion
) -> None:
    settings = make_settings(
        public_url="https://auth.example", mail_from="Example <no-reply@mail.example>"
    )
    about, asked = entry(occasion), payload(locale=locale)
    letter = Letters(settings).write(about, asked)
    assert letter.as_bytes() == Letters(settings).write(about, asked).as_bytes()
    message = parsed(letter)
    text, page = bodies(message)
    assert message["From"] == "Example <no-reply@mail.example>"
    assert message["To"] == "Alice@example.com"
    assert message["Message-ID"] == f"<{about.id}@mail.example>"
    assert message["Date"].datetime == AT
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == locale
    assert "Example" in text
    link = link_of(occasion, asked["secret"], settings)
    assert (link is None) == (occasion.value not in {
        "confirm", "reset", "change", "email_changed", "invitation",
    })  # fmt: skip
    if link is not None:
        assert link in text.splitlines(), "on a line of its own, whole"
        assert Page(page).links == [link, link]
    assert all(word in Page(page).text for word in text.split() if word != link)
    source = (SHIPPED / locale / f"{occasion}.txt").read_text()
    assert source.startswith("Subject: ")
    assert message["Subject"]
    assert all(len(line) <= 998 and line.isascii() for line in message.as_bytes().splitlines())


def test_korean_is_korean(make_settings: SettingsFactory) -> None:
    message = parsed(Letters(make_settings()).write(entry(Occasion.RESET), payload(locale="ko")))
    assert message["Subject"] == "새 비밀번호를 설정해 주세요"
    text, page = bodies(message)
    assert "비밀번호" in text
    assert '<html lang="ko">' in page


@pytest.mark.parametrize(
    ("locale", "locales", "expected"),
    [
        ("ko-KR", ("en", "ko"), "ko"),
        ("ko", ("en", "ko"), "ko"),
        (None, ("en", "ko"), "en"),
        (None, ("ko", "en"), "ko"),
        ("de-CH-1996", ("ko",), "ko"),
        ("de", ("fr",), "en"),
    ],
)
def test_the_language_of_the_account_or_the_nearest(
    make_settings: SettingsFactory, locale: str | None, locales: tuple[str, ...], expected: str
) -> None:
    letters = Letters(make_settings(locales=locales))
    message = letters.write(entry(), payload(locale=locale))
    assert message["Content-Language"] == expected


def test_fallbacks_end_in_english() -> None:
    assert list(fallbacks("de-CH", ("pt-BR",))) == ["de-CH", "de", "pt-BR", "pt", "en"]


@pytest.mark.parametrize(
    "name",
    [
        "a@x\r\nBcc: victim@example.com",
        "Alice\nSubject: other",
        "Alice\u2028\u2029\x00\x1b[31m",
        "<img src=x onerror=alert(1)>",
        "{{7*7}} {% for x in y %} {{ self.__class__ }}",
        "{# gone #}",
        '"><a href="https://evil.example">',
        "=?utf-8?q?=0D=0ABcc:_victim=40example.com?=",
    ],
)
@time_machine.travel(datetime(2026, 11, 27, 12, tzinfo=UTC), tick=False)  # a mail tells its time
def test_nothing_gets_in_by_a_name(make_settings: SettingsFactory, name: str) -> None:
    letters = Letters(make_settings())
    plain = parsed(letters.write(entry(), payload(name="Alice", facts={"token": "Alice"})))
    message = parsed(letters.write(entry(), payload(name=name, facts={"token": name})))
    assert message.keys() == plain.keys()
    assert [part.keys() for part in message.walk()] == [part.keys() for part in plain.walk()]
    assert message["Subject"] == plain["Subject"]
    assert message["To"] == plain["To"]
    text, page = bodies(message)
    once = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    assert text == bodies(plain)[0].replace("Alice", once)
    assert Page(page).tags == Page(bodies(plain)[1]).tags
    assert Page(page).links == []
    assert "49" not in text


@pytest.mark.parametrize("locale", ["en", "ko"])
def test_nothing_gets_into_the_subject(
    make_settings: SettingsFactory, tmp_path: Path, locale: str
) -> None:
    (tmp_path / locale).mkdir()
    (tmp_path / locale / "token_created.txt").write_text("Subject: For {{ name }}\n\nText\n")
    letters = Letters(make_settings(mail_templates=tmp_path))
    message = parsed(
        letters.write(entry(), payload(locale=locale, name="a\r\nBcc: b@example.com\r\n\r\n<b>"))
    )
    assert message["Subject"] == "For a Bcc: b@example.com <b>"
    assert message["Bcc"] is None
    assert bodies(message)[0] == "Text\n"
    assert "&lt;b&gt;" in bodies(message)[1]


@pytest.mark.parametrize(
    "address", ["a@x\r\nBcc: b@example.com", "a@example.com, b@example.com", "<a@example.com>", ""]
)
def test_what_is_no_address_is_never_tried_again(
    make_settings: SettingsFactory, address: str
) -> None:
    with pytest.raises(DeliveryFailed) as raised:
        Letters(make_settings()).write(entry(), payload(to=address))
    assert raised.value.permanent
    assert "example.com" not in str(raised.value)


def test_a_domain_of_another_script_travels_in_ascii(make_settings: SettingsFactory) -> None:
    message = Letters(make_settings()).write(entry(), payload(to="Alice@bücher.example"))
    assert message["To"] == "Alice@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("occasion", "setting", "path"),
    [
        (Occasion.CONFIRM, "confirm_link", "confirm"),
        (Occasion.CHANGE, "confirm_link", "confirm"),
        (Occasion.RESET, "reset_link", "reset"),
        (Occasion.EMAIL_CHANGED, "undo_link", "undo"),
        (Occasion.INVITATION, "invitation_link", "invitation"),
    ],
)
def test_links_come_from_the_settings_alone(
    make_settings: SettingsFactory, occasion: Occasion, setting: str, path: str
) -> None:
    ours = make_settings(public_url="https://auth.example/base")
    assert link_of(occasion, "a/b&c", ours) == (
        f"https://auth.example/base/account/{path}?token=a%2Fb%26c"
    )
    theirs = make_settings(**{setting: "https://app.example/x?y=1#{token}"})
    assert link_of(occasion, "s", theirs) == "https://app.example/x?y=1#s"


def test_own_templates_go_before_ours_file_by_file(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    for folder in ("en", "de", "ko"):
        (tmp_path / folder).mkdir()
    (tmp_path / "en/reset.txt").write_text("Subject: Own\n\nGo to\n\n{{ link }}\n\n& back\n")
    (tmp_path / "de/reset.txt").write_text("Subject: Passwort\n\nGeh zu {{ link }}\n")
    (tmp_path / "ko/confirm.html").write_text("<p>{{ name }}</p>")
    settings = make_settings(mail_templates=tmp_path, locales=("en", "ko", "de"))
    letters = Letters(settings)
    letters.check()
    own = letters.write(entry(Occasion.RESET), payload())
    assert own["Subject"] == "Own"
    page = Page(bodies(own)[1])
    assert "& back" in page.text, "the page says what the text says"
    assert len(page.links) == 2
    german = letters.write(entry(Occasion.RESET), payload(locale="de"))
    assert german["Subject"] == "Passwort"
    korean = letters.write(entry(Occasion.CONFIRM), payload(locale="ko", name="<b>"))
    assert "확인" in bodies(korean)[0]
    assert bodies(korean)[1].strip() == "<p>&lt;b&gt;</p>"
    (tmp_path / "layout.html").write_text("<main>{{ paragraphs[0] }}</main>")
    assert bodies(Letters(settings).write(entry(Occasion.RESET), payload()))[1] == (
        "<main>Go to</main>\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        "no subject\n\ntext",
        "Subject: s\n",
        "Subject: s\n\n{{ unknown }}",
        "Subject: s\n\n{% if %}",
        "Subject: s\n\n{{ ''.__class__.__mro__ }}",
        "Subject: s\n\n{{ 1 / 0 }}",
    ],
    ids=["no subject", "no text", "unknown", "syntax", "sandbox", "division"],
)
def test_a_template_that_cannot_be_written_is_named(
    make_settings: SettingsFactory, tmp_path: Path, source: str
) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en/reset.txt").write_text(source)
    letters = Letters(make_settings(mail_templates=tmp_path))
    with pytest.raises(ConfigurationError, match=r"^the mail template en/reset\.txt: \w+$"):
        letters.check()
    with pytest.raises(DeliveryFailed) as raised:
        letters.write(entry(Occasion.RESET), payload())
    assert not raised.value.permanent, "whoever mends the template has the mail sent"


def test_a_folder_of_templates_that_is_not_there(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="AUTHAPI_MAIL_TEMPLATES is no folder"):
        Letters(make_settings(mail_templates=tmp_path / "none")).check()


def test_every_template_shipped_can_be_written(make_settings: SettingsFactory) -> None:
    Letters(make_settings()).check()
    english, korean = ({path.name for path in (SHIPPED / name).iterdir()} for name in ("en", "ko"))
    assert english == korean == {f"{occasion}.txt" for occasion in Occasion}
