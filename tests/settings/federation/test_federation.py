"""The settings of logins at other providers, and how variables give them."""

import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from authapi.errors import ConfigurationError
from authapi.settings import Settings, load_settings, secret_files, secrets_in_dotenv
from authapi.settings import unknown_settings as unknown
from authapi.settings.descriptions import described_setting, described_settings
from authapi.settings.federation.options import OPTIONS, ProviderOptions

SECRET = "a-client-secret-of-the-tests"
URL = "https://auth.example"


@pytest.fixture(autouse=True)
def _public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", URL)


def variables(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"AUTHAPI_PROVIDER_{name}", value)


def test_two_variables_make_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, GOOGLE_CLIENT_ID="the-id", GOOGLE_CLIENT_SECRET=SECRET)
    google = load_settings().provider_options["google"]
    assert google.client_id == "the-id"
    assert google.client_secret == SecretStr(SECRET)
    assert google.model_fields_set == {"client_id", "client_secret"}


def test_every_option_has_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, str] = {
        "type": "openid",
        "title": "My Corp",
        "scopes": "openid email",
        "trust_mfa": "true",
        "mfa_acr": "urn:a urn:b",
        "trust_email": "false",
        "trusted_email_domains": "a.example,b.example",
        "tenants": "a b",
        "key_file": "/run/key.p8",
        "pkce": "false",
        "response_mode": "form_post",
        "client_auth": "post",
    }
    for option in OPTIONS:
        default = f"https://id.example/{option}" if option.endswith("_url") else "text"
        value = values.get(option, "https://id.example" if option == "issuer" else default)
        variables(monkeypatch, **{f"MY_CORP_{option.upper()}": value})
    found = load_settings().provider_options["my-corp"]
    assert found.model_fields_set == set(OPTIONS)
    assert (found.scopes, found.pkce, found.trust_mfa) == (("openid", "email"), False, True)
    assert found.trusted_email_domains == ("a.example", "b.example")


def test_the_list_gives_the_order_and_json_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, GITHUB_CLIENT_ID="x", ACME_ISSUER="https://id.acme.example")
    monkeypatch.setenv("AUTHAPI_PROVIDERS", "google, github")
    assert list(load_settings().providers) == ["google", "github", "acme"]
    monkeypatch.setenv("AUTHAPI_PROVIDERS", '["google"]')
    assert list(load_settings().providers) == ["google", "acme", "github"]
    monkeypatch.setenv("AUTHAPI_PROVIDERS", '{"google": {"client_id": "y"}, "github": {}}')
    found = load_settings().provider_options
    assert (found["google"].client_id, found["github"].client_id) == ("y", "x")


def test_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, GOOGLE_CLIENT_ID="of-the-environment", GOOGLE_CLIENT_SECRET=SECRET)
    found = Settings(providers={"google": {"client_id": "of-the-code"}}).provider_options["google"]
    assert found.client_id == "of-the-code"
    assert found.client_secret == SecretStr(SECRET)
    isolated = Settings.isolated(public_url=URL, providers={"google": {"client_id": "x"}})
    assert isolated.provider_options["google"].client_secret is None
    given = {"google": ProviderOptions(client_id="x")}
    assert Settings.isolated(public_url=URL, providers=given).providers == given


def test_variables_of_dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    lines = ("CLIENT_ID=file", f"CLIENT_SECRET={SECRET}")
    Path(".env").write_text("".join(f"AUTHAPI_PROVIDER_GOOGLE_{line}\n" for line in lines))
    assert load_settings().provider_options["google"].client_id == "file"
    assert secrets_in_dotenv() == {Path(".env"): ("AUTHAPI_PROVIDER_GOOGLE_CLIENT_SECRET",)}
    variables(monkeypatch, GOOGLE_CLIENT_ID="environment")
    assert load_settings().provider_options["google"].client_id == "environment"
    Path(".env").write_text('AUTHAPI_PROVIDERS={"a": {"client_secret": "x"}}\n')
    assert secrets_in_dotenv() == {Path(".env"): ("AUTHAPI_PROVIDERS",)}
    Path(".env").write_text("AUTHAPI_PROVIDERS=google\n")
    assert secrets_in_dotenv() == {}


def test_a_secret_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    variables(monkeypatch, GOOGLE_CLIENT_SECRET_FILE=str(file))
    assert load_settings().provider_options["google"].client_secret == SecretStr(SECRET)
    assert secret_files() == {"AUTHAPI_PROVIDER_GOOGLE_CLIENT_SECRET_FILE": file}
    file.unlink()
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == (
        "AUTHAPI_PROVIDER_GOOGLE_CLIENT_SECRET_FILE names a file that cannot be read"
    )


@pytest.mark.parametrize("kind", ["client_secret_file", "key_file"])
def test_files_that_others_can_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "file"
    file.write_text(SECRET)
    file.chmod(0o644)
    variables(monkeypatch, **{f"APPLE_{kind.upper()}": str(file)})
    for name, value in {
        "ENV": "production",
        "SECRET": "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c",
        "DATABASE_URL": "sqlite:///x.db",
        "ALLOW_SQLITE": "true",
    }.items():
        monkeypatch.setenv(f"AUTHAPI_{name}", value)
    with pytest.raises(ConfigurationError, match="is readable by all users: chmod o-r"):
        load_settings()
    file.chmod(0o600)
    assert "apple" in load_settings().providers
    if kind == "key_file":
        file.unlink()
        with pytest.raises(ConfigurationError, match="the key_file of apple cannot be read"):
            load_settings()


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ('{"acme": {"isuer": "x"}}', "acme has no option 'isuer': did you mean issuer?"),
        ('{"acme": {"xyz": "x"}}', "acme has no option 'xyz'"),
        ('{"acme": {"issuer": "acme.example"}}', "acme: issuer must be an https URL"),
        ('{"acme": {"issuer": "http://acme.example"}}', "acme: issuer must be an https URL"),
        ('{"acme": {"issuer": "https://a.example?b"}}', "acme: issuer must have no query"),
        ('{"acme": {"token_url": "https://a#b"}}', "acme: token_url must be an https URL"),
        ('{"acme": {"client_id": "a b"}}', "acme: client_id must be ASCII without spaces"),
        ('{"acme": {"client_id": ""}}', "acme: client_id must not be empty"),
        ('{"acme": {"pkce": "perhaps"}}', "acme: pkce must be true or false"),
        ('{"acme": {"title": "\\u0007"}}', "acme: title must be a line of text"),
        ('{"acme": {"response_mode": "fragment"}}', "acme: response_mode must be query or"),
        ('{"acme": {"trusted_email_domains": "A.example"}}', "must be domains in lower case"),
        ('{"acme": 7}', "must be names by commas, or a JSON object"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"a": {"client_id": "x"}, "a": {"client_id": "y"}}', "names something twice"),
        ('{"a": {"client_id": "x", "client_id": "y"}}', "names something twice"),
        ("exchange", "not address or exchange"),  # which are paths of their own
        ("address", "not address or exchange"),
        ('{"exchange": {"issuer": "https://a.example"}}', "not address or exchange"),
        ("\ufeff{}", "the name of a provider is lower-case letters"),
        ("[7]", "must be names by commas, or a JSON object"),
        ("Acme", "the name of a provider is lower-case letters"),
        ("a--b", "the name of a provider is lower-case letters"),
        ("-a", "the name of a provider is lower-case letters"),
        ("x" * 41, "the name of a provider is lower-case letters"),
        ("google,exchange", "the name of a provider is lower-case letters"),
        (",".join(f"a{n}" for n in range(51)), "must have at most 50 providers"),
    ],
    ids=range(28),
)
def test_values_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, providers: str, problem: str
) -> None:
    monkeypatch.setenv("AUTHAPI_PROVIDERS", providers)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    text = str(caught.value)
    assert text.startswith("AUTHAPI_PROVIDERS: ")
    assert problem in text
    assert "\n" not in text


@pytest.mark.parametrize("value", [7, "{", {"a": 7}, {7: {}}, {"a": {7: 7}}])
def test_arguments_that_are_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        Settings.isolated(public_url=URL, providers=value)


def test_providers_need_the_public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTHAPI_PUBLIC_URL")
    variables(monkeypatch, GOOGLE_CLIENT_ID="x")
    with pytest.raises(ConfigurationError, match="providers need AUTHAPI_PUBLIC_URL"):
        load_settings()


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("AUTHAPI_PROVIDER_GOOGLE_CLIENTID", "AUTHAPI_PROVIDER_GOOGLE_CLIENT_ID"),
        ("AUTHAPI_PROVIDER_ACME_ISUER", "AUTHAPI_PROVIDER_ACME_ISSUER"),
        ("AUTHAPI_PROVIDER_ACME_CLIENT_SECRET_FIL", "AUTHAPI_PROVIDER_ACME_CLIENT_SECRET_FILE"),
    ],
)
def test_misspelt_variables(monkeypatch: pytest.MonkeyPatch, given: str, nearest: str) -> None:
    variables(monkeypatch, ACME_CLIENT_ID="x")
    monkeypatch.setenv(given, SECRET)
    line = f"{given} is not a setting and has no effect: did you mean {nearest}?"
    assert unknown(Settings) == {given: line}


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, GOOGLE_CLIENT_ID="x", GOOGLE_CLIENT_SECRET=SECRET)
    settings = load_settings()
    assert described_setting(settings, "providers") == "google"
    assert described_settings(settings)["providers"] == {
        "google": {"client_id": "x", "client_secret": "(hidden)"}
    }
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    "providers",
    [
        f'{{"google": {{"client_secret": "{SECRET}"}}',
        f'{{"google": {{"client_secret": "{SECRET}", "client_id": ""}}}}',
        f'{{"google": {{"client_secret": ["{SECRET}"]}}}}',
        f'{{"google": {{"client_secret": {{"a": "{SECRET}"}}}}}}',
        f'{{"google": {{"client_secret": "{SECRET}", "client_secret": "{SECRET}"}}}}',
        f'{{"google": "{SECRET}"}}',
    ],
    ids=range(6),
)
def test_a_secret_in_a_wrong_value_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, providers: str
) -> None:
    monkeypatch.setenv("AUTHAPI_PROVIDERS", providers)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValidationError) as refused:
        Settings.isolated(public_url=URL, providers=providers)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_wrong_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    variables(monkeypatch, GOOGLE_CLIENT_SECRET=f"{SECRET}\nand more")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value) == (
        "AUTHAPI_PROVIDERS: google: client_secret must not contain a line end or a NUL"
    )
