"""Rendering of mail: texts, languages and headers, and attempts to inject into them."""

import email
import email.policy
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import time_machine

from authapi.crypto.ids import new_id
from authapi.domain.outbox import OutboxEntry
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.services.mail.kinds import MailKind
from authapi.services.mail.links import link_for
from authapi.services.mail.rendering import (
    TEMPLATES,
    MailRenderer,
    example_payload,
    locale_fallbacks,
)
from authapi.settings.values.colours import TEXT_CONTRAST, contrast
from tests.conftest import SettingsFactory

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
EVERY = [(locale, kind) for locale in ("en", "ko") for kind in MailKind]


def entry(kind: MailKind = MailKind.TOKEN_CREATED) -> OutboxEntry:
    return OutboxEntry(new_id(), "mail", kind.value, None, b"", AT, AT, AT)


def payload(**changes: Any) -> dict[str, Any]:
    return {**example_payload("en", to="Alice@example.com"), **changes}


def parsed(message: EmailMessage) -> EmailMessage:
    """The message as the recipient parses it, from its bytes."""
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


@pytest.mark.parametrize(("locale", "kind"), EVERY)
def test_every_mail_is_rendered_in_every_language(
    make_settings: SettingsFactory, locale: str, kind: MailKind
) -> None:
    settings = make_settings(
        public_url="https://auth.example", mail_from="Example <no-reply@mail.example>"
    )
    outbox_entry, values = entry(kind), payload(locale=locale)
    rendered = MailRenderer(settings).render(outbox_entry, values)
    assert rendered.as_bytes() == MailRenderer(settings).render(outbox_entry, values).as_bytes()
    message = parsed(rendered)
    text, page = bodies(message)
    assert message["From"] == "Example <no-reply@mail.example>"
    assert message["To"] == "Alice@example.com"
    assert message["Message-ID"] == f"<{outbox_entry.id}@mail.example>"
    assert message["Date"].datetime == AT
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Content-Language"] == locale
    assert "Example" in text
    link = link_for(kind, values["secret"], settings, locale=locale)
    assert (link is None) == (kind.value not in {
        "confirm", "reset", "change", "email_changed", "new_device", "invitation",
    })  # fmt: skip
    if link is not None:
        assert link in text.splitlines(), "the link is a line of its own"
        assert Page(page).links == [link, link]
    assert all(word in Page(page).text for word in text.split() if word != link)
    source = (TEMPLATES / locale / f"{kind}.txt").read_text()
    assert source.startswith("Subject: ")
    assert message["Subject"]
    assert all(len(line) <= 998 and line.isascii() for line in message.as_bytes().splitlines())


def test_korean_mail_is_korean(make_settings: SettingsFactory) -> None:
    message = parsed(
        MailRenderer(make_settings()).render(entry(MailKind.RESET), payload(locale="ko"))
    )
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
def test_mail_uses_the_language_of_the_account_or_a_fallback(
    make_settings: SettingsFactory, locale: str | None, locales: tuple[str, ...], expected: str
) -> None:
    renderer = MailRenderer(make_settings(locales=locales))
    message = renderer.render(entry(), payload(locale=locale))
    assert message["Content-Language"] == expected


def test_locale_fallbacks_end_with_english() -> None:
    assert list(locale_fallbacks("de-CH", ("pt-BR",))) == ["de-CH", "de", "pt-BR", "pt", "en"]


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
@time_machine.travel(datetime(2026, 11, 27, 12, tzinfo=UTC), tick=False)  # mail contains the time
def test_name_cannot_inject_text_or_html(make_settings: SettingsFactory, name: str) -> None:
    renderer = MailRenderer(make_settings())
    plain = parsed(renderer.render(entry(), payload(name="Alice", facts={"token": "Alice"})))
    message = parsed(renderer.render(entry(), payload(name=name, facts={"token": name})))
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
def test_template_values_cannot_inject_headers(
    make_settings: SettingsFactory, tmp_path: Path, locale: str
) -> None:
    (tmp_path / locale).mkdir()
    (tmp_path / locale / "token_created.txt").write_text("Subject: For {{ name }}\n\nText\n")
    renderer = MailRenderer(make_settings(mail_templates=tmp_path))
    message = parsed(
        renderer.render(entry(), payload(locale=locale, name="a\r\nBcc: b@example.com\r\n\r\n<b>"))
    )
    assert message["Subject"] == "For a Bcc: b@example.com <b>"
    assert message["Bcc"] is None
    assert bodies(message)[0] == "Text\n"
    assert "&lt;b&gt;" in bodies(message)[1]


@pytest.mark.parametrize(
    "address", ["a@x\r\nBcc: b@example.com", "a@example.com, b@example.com", "<a@example.com>", ""]
)
def test_invalid_recipient_is_a_permanent_failure(
    make_settings: SettingsFactory, address: str
) -> None:
    with pytest.raises(DeliveryFailed) as raised:
        MailRenderer(make_settings()).render(entry(), payload(to=address))
    assert raised.value.permanent
    assert "example.com" not in str(raised.value)


def test_internationalized_domain_is_sent_as_a_labels(make_settings: SettingsFactory) -> None:
    message = MailRenderer(make_settings()).render(entry(), payload(to="Alice@bücher.example"))
    assert message["To"] == "Alice@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("kind", "setting", "path"),
    [
        (MailKind.CONFIRM, "confirm_link", "confirm"),
        (MailKind.CHANGE, "confirm_link", "confirm"),
        (MailKind.RESET, "reset_link", "reset"),
        (MailKind.EMAIL_CHANGED, "undo_link", "undo"),
        (MailKind.NEW_DEVICE, "disown_link", "disown"),
        (MailKind.INVITATION, "invitation_link", "invitation"),
    ],
)
def test_links_depend_on_settings_only(
    make_settings: SettingsFactory, kind: MailKind, setting: str, path: str
) -> None:
    ours = make_settings(public_url="https://auth.example/base")
    assert link_for(kind, "a/b&c", ours, locale="ko") == (
        f"https://auth.example/base/account/{path}?token=a%2Fb%26c&lang=ko"
    )
    theirs = make_settings(**{setting: "https://app.example/x?y=1#{token}"})
    assert link_for(kind, "s", theirs, locale="ko") == "https://app.example/x?y=1#s"


def test_custom_templates_override_shipped_ones_file_by_file(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    for folder in ("en", "de", "ko"):
        (tmp_path / folder).mkdir()
    (tmp_path / "en/reset.txt").write_text("Subject: Own\n\nGo to\n\n{{ link }}\n\n& back\n")
    (tmp_path / "de/reset.txt").write_text("Subject: Passwort\n\nGeh zu {{ link }}\n")
    (tmp_path / "ko/confirm.html").write_text("<p>{{ name }}</p>")
    settings = make_settings(mail_templates=tmp_path, locales=("en", "ko", "de"))
    renderer = MailRenderer(settings)
    renderer.check()
    own = renderer.render(entry(MailKind.RESET), payload())
    assert own["Subject"] == "Own"
    page = Page(bodies(own)[1])
    assert "& back" in page.text, "the HTML has the content of the text"
    assert len(page.links) == 2
    german = renderer.render(entry(MailKind.RESET), payload(locale="de"))
    assert german["Subject"] == "Passwort"
    korean = renderer.render(entry(MailKind.CONFIRM), payload(locale="ko", name="<b>"))
    assert "확인" in bodies(korean)[0]
    assert bodies(korean)[1].strip() == "<p>&lt;b&gt;</p>"
    (tmp_path / "layout.html").write_text("<main>{{ paragraphs[0] }}</main>")
    assert bodies(MailRenderer(settings).render(entry(MailKind.RESET), payload()))[1] == (
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
def test_template_that_cannot_be_rendered_is_named(
    make_settings: SettingsFactory, tmp_path: Path, source: str
) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en/reset.txt").write_text(source)
    renderer = MailRenderer(make_settings(mail_templates=tmp_path))
    with pytest.raises(ConfigurationError, match=r"^the mail template en/reset\.txt: \w+$"):
        renderer.check()
    with pytest.raises(DeliveryFailed) as raised:
        renderer.render(entry(MailKind.RESET), payload())
    assert not raised.value.permanent, "mail is retried after the template is fixed"


def test_missing_template_folder_is_a_configuration_error(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="AUTHAPI_MAIL_TEMPLATES is not a folder"):
        MailRenderer(make_settings(mail_templates=tmp_path / "none")).check()


def test_every_shipped_template_can_be_rendered(make_settings: SettingsFactory) -> None:
    MailRenderer(make_settings()).check()
    english, korean = (
        {path.name for path in (TEMPLATES / name).iterdir()} for name in ("en", "ko")
    )
    assert english == korean == {f"{kind}.txt" for kind in MailKind}


@pytest.mark.parametrize("kind", [MailKind.FACTOR_ADDED, MailKind.FACTOR_REMOVED])
def test_mails_name_the_kind_of_second_factor(
    make_settings: SettingsFactory, kind: MailKind
) -> None:
    renderer = MailRenderer(make_settings())
    for method, word in (("passkey", "passkey"), ("totp", "authenticator app")):
        message = parsed(renderer.render(entry(kind), payload(facts={"method": method})))
        text, _ = bodies(message)
        assert word in message["Subject"]
        assert word in text
        other = {"passkey", "authenticator app"} - {word}
        assert not any(name in text for name in other)


def test_a_mail_tells_whether_a_second_factor_is_left(make_settings: SettingsFactory) -> None:
    renderer = MailRenderer(make_settings())
    for facts, is_left in (({"still": "yes"}, True), ({}, False)):
        changed = payload(facts={"method": "passkey", **facts})
        text, _ = bodies(parsed(renderer.render(entry(MailKind.FACTOR_REMOVED), changed)))
        assert ("still ask for another second factor" in text) is is_left
        assert ("recovery codes ended" in text) is not is_left


@pytest.mark.parametrize("kind", list(MailKind))
def test_mails_have_the_brand_of_the_pages(make_settings: SettingsFactory, kind: MailKind) -> None:
    settings = make_settings(
        brand_name="acme <Tools>",
        brand_colour="#FFCC00",
        mail_from="Example <no-reply@mail.example>",
    )
    message = MailRenderer(settings).render(entry(kind), payload())
    text, page = bodies(parsed(message))
    assert "acme <Tools>" in message["Subject"] + text
    assert "Example" not in text.replace("Example User", "")
    assert message["From"].addresses[0].display_name == "Example"
    assert "background: #ffcc00; color: #000000" in page
    [mark] = re.findall(r'<span aria-hidden="true"[^>]*>(.*?)</span>acme &lt;Tools&gt;</p>', page)
    assert mark == "A"
    # The colour of the page is too light for a link on white.
    links = re.findall(r'<a [^>]*style="color: (#[0-9a-f]{6})"', page)
    assert all(contrast(link, "#ffffff") >= TEXT_CONTRAST for link in links)
    assert len(links) == ("http" in text)
