"""Templates of the operator that cannot be rendered: the start and the doctor name them."""

from pathlib import Path

import pytest

from authapi import create_app
from authapi.diagnostics.configuration import check_pages
from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.testing import client
from authapi.web.pages.site import TEMPLATES
from tests.conftest import SettingsFactory

OWN_PAGE = "{% extends 'base.html' %}{% block title %}{% endblock %}{% block content %}"
BROKEN = [
    ("sign-in.html", "{% if %}", "line 1: TemplateSyntaxError"),
    ("sign-in.html", "{% extends 'missing.html' %}", "line 1: TemplateNotFound"),
    ("reset.html", f"{OWN_PAGE}\n{{{{ nme }}}}{{% endblock %}}", "line 2: UndefinedError: 'nme'"),
    # In a branch for a value that is optional.
    (
        "account.html",
        "{% if not user.name %}\n{{ user.nickname }}{% endif %}",
        "line 2: UndefinedError: 'authapi.domain.user.User object' has no attribute 'nickname'",
    ),
    ("base.html", "{{ brand }}\n\n{{ missing }}", "line 3: UndefinedError: 'missing'"),
    ("devices.html", "{{ devices[0].session.__class__.mro() }}", "line 1: SecurityError"),
    ("data.html", "{{ 1 / 0 }}", "line 1: ZeroDivisionError"),
]


@pytest.mark.parametrize(("file", "content", "problem"), BROKEN, ids=range(len(BROKEN)))
async def test_a_template_that_cannot_be_rendered_refuses_the_start(
    make_settings: SettingsFactory, tmp_path: Path, file: str, content: str, problem: str
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(ConfigurationError) as refusal:
        async with client(create_app(make_settings(page_templates=tmp_path))):
            pass
    assert str(refusal.value).startswith(f"the page template {file}, {problem}")
    assert "\n" not in str(refusal.value)
    settings = make_settings(page_templates=tmp_path)
    finding = list(check_pages(Subject(settings, lambda: Services.build(settings))))
    assert finding == [Finding("pages", "error", str(refusal.value))]


async def test_a_broken_element_is_named_by_its_own_file(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    elements = (TEMPLATES / "elements.html").read_text()
    lines = elements[: elements.index("{% macro banner")].count("\n") + 2
    own = elements.replace('<div class="banner {{ kind }}"', '<div class="{{ kid }}"')
    (tmp_path / "elements.html").write_text(own)
    problem = f"the page template elements.html, line {lines}: UndefinedError: 'kid' is undefined"
    with pytest.raises(ConfigurationError, match=f"^{problem}$"):
        async with client(create_app(make_settings(page_templates=tmp_path))):
            pass


async def test_a_catalogue_with_a_wrong_placeholder_refuses_the_start(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "locale" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "authapi.po").write_text(
        'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
        'msgid "You are signed in as %(email)s."\nmsgstr "Angemeldet als %(mail)s."\n'
    )
    settings = make_settings(page_templates=tmp_path, page_locales=("de",))
    problem = r"^the page template sign-out\.html, line \d+: KeyError$"
    with pytest.raises(ConfigurationError, match=problem):
        async with client(create_app(settings)):
            pass


async def test_templates_that_no_page_has_are_not_rendered(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    """They are parts that others include, with values of their own."""
    (tmp_path / "part.html").write_text("{{ word }}")
    own = OWN_PAGE + "{% with word = 'Hello' %}{% include 'part.html' %}{% endwith %}{% endblock %}"
    (tmp_path / "sign-in.html").write_text(own)
    async with client(create_app(make_settings(page_templates=tmp_path))) as api:
        assert "Hello" in (await api.get("/account/sign-in")).text
