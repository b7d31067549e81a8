"""Tests of compiled templates: they are shared, and follow their files."""

from collections.abc import Mapping
from pathlib import Path

import jinja2
import pytest

from authapi import Settings
from authapi.services.mail.compiled_templates import CompiledTemplates
from authapi.web.pages.site import Site


def environment(
    folder: Path, cache: CompiledTemplates, texts: Mapping[str, str]
) -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        bytecode_cache=cache,
        extensions=["jinja2.ext.i18n"],
    )
    install = found.install_gettext_callables  # type: ignore[attr-defined]  # of the extension
    install(lambda text: texts[text], lambda one, many, _: one, newstyle=True)
    return found


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the templates that Jinja has compiled."""
    names = list[str]()
    compile_ = jinja2.Environment.compile

    def recording(self: jinja2.Environment, source: str, name: str, filename: str) -> object:
        names.append(name)
        return compile_(self, source, name, filename)

    monkeypatch.setattr(jinja2.Environment, "compile", recording)
    return names


def test_a_second_environment_does_not_compile_and_has_its_own_texts(
    tmp_path: Path, compiled: list[str]
) -> None:
    (tmp_path / "a.html").write_text("<p>{{ _('hello') }}</p>")
    cache = CompiledTemplates()
    rendered = [
        environment(tmp_path, cache, {"hello": text}).get_template("a.html").render()
        for text in ("Hello", "Hallo")
    ]
    assert rendered == ["<p>Hello</p>", "<p>Hallo</p>"]
    assert compiled == ["a.html"]


def test_a_changed_file_is_compiled_again(tmp_path: Path, compiled: list[str]) -> None:
    cache, file = CompiledTemplates(), tmp_path / "a.html"
    for text in ("old", "new", "new"):
        file.write_text(text)
        assert environment(tmp_path, cache, {}).get_template("a.html").render() == text
    assert compiled == ["a.html", "a.html"]


def test_files_of_one_name_in_two_folders_are_two_templates(tmp_path: Path) -> None:
    cache = CompiledTemplates()
    for name in ("one", "two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "a.html").write_text(name)
        assert environment(tmp_path / name, cache, {}).get_template("a.html").render() == name


def test_a_language_does_not_compile_the_pages_of_another(compiled: list[str]) -> None:
    site = Site(Settings.isolated(page_locales=("en", "ko")))
    first = site.template("sign-in.html", "en")
    del compiled[:]
    assert site.template("sign-in.html", "ko") is not first
    assert compiled == []
