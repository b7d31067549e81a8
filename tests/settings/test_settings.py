"""Settings: sources, validation, production mode, and secrets that are never text."""

import ast
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path

import pytest

import authapi.settings
from authapi.domain.client import read_client
from authapi.errors import ConfigurationError
from authapi.settings import EdgeSettings, Settings, load_edge_settings, load_settings
from authapi.settings.secret_files import SecretFilesSource

CANARY = "canary-of-at-least-32-characters-length"
PRODUCTION = {
    "AUTHAPI_ENV": "production",
    "AUTHAPI_SECRET": CANARY,
    "AUTHAPI_PUBLIC_URL": "https://auth.example",
    "AUTHAPI_DATABASE_URL": "postgresql://user:canary@db/authapi",
}


def error_of(**overrides: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message


def test_defaults_are_for_local_development(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUTHAPI_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    settings = load_settings()
    assert settings.data_dir == Path("/somewhere/authapi")
    assert settings.resolved_database_url == "sqlite:////somewhere/authapi/authapi.db"
    assert settings.is_embedded
    assert settings.docs_enabled
    assert settings.issuer == "http://127.0.0.1:8000"
    assert not settings.cookie_secure
    assert settings.strategies == ("session", "token", "jwt")
    assert (settings.argon2_memory, settings.argon2_passes, settings.argon2_lanes) == (19456, 2, 1)
    assert settings.password_min_length == 15


def test_default_data_folder_is_in_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AUTHAPI_DATA_DIR")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings().data_dir == tmp_path / ".local" / "share" / "authapi"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "8080", 8080),
        ("docs", "false", False),
        ("strategies", "jwt, session", ("jwt", "session")),
        ("strategies", "jwt session", ("jwt", "session")),
        ("strategies", "my.module:Class", ("my.module:Class",)),
        (
            "allowed_origins",
            "https://a.example,https://b.example",
            ("https://a.example", "https://b.example"),
        ),
        ("scopes", "a=Read; b:c = Write ;d", {"a": "Read", "b:c": "Write", "d": ""}),
        ("scopes", ";", {}),
        ("session_idle", "3600", timedelta(hours=1)),
        ("session_idle", "PT1H", timedelta(hours=1)),
        ("remember_absolute", "P90D", timedelta(days=90)),
        ("public_url", "https://auth.example/", "https://auth.example"),
        ("public_url", "https://auth.example/base", "https://auth.example/base"),
        ("public_url", "HTTPS://Auth.Example:8443/Base/", "https://auth.example:8443/Base"),
        ("public_url", "http://[::1]:8000", "http://[::1]:8000"),
        ("database_timeout", "2.5", 2.5),
        ("port", "", 8000),
    ],
    ids=range(17),
)
def test_variables_are_parsed(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"AUTHAPI_{name.upper()}", text)
    assert getattr(load_settings(), name) == value


def test_environment_takes_precedence_over_dotenv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("AUTHAPI_PORT=1111\nAUTHAPI_WORKERS=3\nOTHER=x\n")
    monkeypatch.setenv("AUTHAPI_PORT", "2222")
    settings = load_settings()
    assert (settings.port, settings.workers) == (2222, 3)
    assert load_settings({"port": 3333}).port == 3333


def test_unknown_variable_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_SHOE_SIZE", "42")
    load_settings()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_secret_is_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str
) -> None:
    for name, text in (("secret", " " + CANARY), ("database_url", "postgresql://u:canary@db/x")):
        (tmp_path / name).write_text(text + ending)
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}_FILE", str(tmp_path / name))
    settings = load_settings()
    assert settings.secret is not None
    assert settings.secret.get_secret_value() == " " + CANARY
    assert settings.resolved_database_url == "postgresql://u:canary@db/x"
    assert not settings.is_embedded
    # The variable takes precedence over the file. Other settings are not read from files.
    monkeypatch.setenv("AUTHAPI_SECRET", "x" * 32)
    monkeypatch.setenv("AUTHAPI_HOST_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    assert settings.secret is not None
    assert settings.secret.get_secret_value() == "x" * 32
    assert settings.host == "127.0.0.1"


def test_files_of_other_programs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    # Many images set this variable. The source of secret files takes milliseconds.
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/cert.pem")
    monkeypatch.setattr(SecretFilesSource, "__call__", None)
    load_settings()


def test_unreadable_secret_file_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 40)
    for path in (tmp_path / "missing", tmp_path, tmp_path / "binary"):
        monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(path))
        assert error_of() == "AUTHAPI_SECRET_FILE names a file that cannot be read"
    monkeypatch.setenv("AUTHAPI_SECRET_FILE", "/dev/zero")  # endless
    assert error_of() == "AUTHAPI_SECRET_FILE names a file of more than 64 KiB"


OUT_OF_BOUNDS = {
    "port": ["many", "-1", "65536", "1.5"],
    "workers": ["0", "65"],
    "env": ["prod", "PRODUCTION"],
    "registration": ["maybe"],
    "docs": ["perhaps"],
    "strategies": [","],
    "secret": ["x" * 31],
    "scopes": ["a b=c", 'a"=c', "=c", "a\\=c", "é=c", "a\t=c;\x7f=d"],
    "session_idle": ["0", "-1", "soon", "P0D"],
    "jwt_lifetime": ["-PT1S"],
    "jwt_audience": ["x" * 256],
    "session_data_bytes": ["1", "65537"],
    "password_min_length": ["7", "1025"],
    "password_max_length": ["63", "1025"],
    "argon2_memory": ["19455", "1048577"],
    "argon2_passes": ["1", "65"],
    "argon2_lanes": ["0", "17"],
    "hash_concurrency": ["0", "65"],
    "hash_queue": ["-1", "10001"],
    "max_body_bytes": ["1023"],
    "max_header_bytes": ["4095"],
    "max_credential_bytes": ["1023"],
    "max_json_depth": ["3", "201"],
    "database_pool_size": ["0", "1001"],
    "database_pool_timeout": ["0", "301", "nan"],
    "database_timeout": ["0", "301", "inf"],
    "shutdown_timeout": ["0", "3601"],
    "public_url": [
        *("auth.example", "//auth.example", "ftp://x", "https://", "https:///x", "https://[", "/"),
        *("https://x:port", "https://x:0", "https://x:99999", "https://x/?a=b", "https://x/#a"),
        *("https://u@x", "https://:p@x", "https://u:p@x", "https://bücher.example", "https://a b"),
        *("https://a\nb", "https://a\tb", "https://" + "x" * 250),
    ],
}


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_values_out_of_bounds_are_rejected_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for value in OUT_OF_BOUNDS[name]:
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", value)
        assert name in error_of().lower()


def test_all_invalid_values_are_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("port", "workers", "docs", "jwt_lifetime", "argon2_memory"):
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", "canary")
    monkeypatch.setenv("AUTHAPI_SECRET", "canary")
    message = error_of()
    assert "canary" not in message
    for name in ("PORT", "WORKERS", "DOCS", "JWT_LIFETIME", "ARGON2_MEMORY", "SECRET"):
        assert f"AUTHAPI_{name}: " in message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password_min_length": 100, "password_max_length": 64}, "password_min_length"),
        ({"session_idle": timedelta(days=8)}, "session_idle is longer"),
        ({"remember_idle": timedelta(days=91)}, "remember_idle is longer"),
        ({"personal_token_lifetime": timedelta(days=367)}, "personal_token_lifetime is longer"),
        ({"strategies": ()}, "strategies must not be empty"),
    ],
    ids=range(5),
)
def test_contradictory_settings_are_rejected(settings: dict[str, object], words: str) -> None:
    assert words in error_of(**settings)


def test_production_names_each_missing_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.cookie_secure
    assert not settings.docs_enabled
    assert settings.issuer == "https://auth.example"
    required = [name for name in PRODUCTION if name != "AUTHAPI_ENV"]
    for name in required:
        monkeypatch.delenv(name)
        message = error_of()
        assert [other for other in required if other in message] == [name]
        monkeypatch.setenv(name, PRODUCTION[name])
    for name in required:
        monkeypatch.delenv(name)
    assert all(name in error_of() for name in required)


def test_production_requires_https(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    for url in ("http://auth.example", "http://127.0.0.1:8000"):
        monkeypatch.setenv("AUTHAPI_PUBLIC_URL", url)
        assert "https" in error_of()


def test_docs_setting_overrides_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not load_settings({"docs": False}).docs_enabled
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    assert load_settings({"docs": True}).docs_enabled


def test_settings_never_show_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    for text in (
        repr(settings),
        str(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
    ):
        assert "canary" not in text


def test_ipv6_host_is_bracketed_in_urls() -> None:
    assert load_settings({"host": "::1"}).issuer == "http://[::1]:8000"


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1  # type: ignore[misc]


def test_every_setting_has_a_docstring() -> None:
    folder = Path(authapi.settings.__file__).parent
    bodies = [
        node.body
        for module in folder.rglob("*.py")
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")
    ]
    assert len(bodies) == 10
    documented = {
        node.target.id
        for body in bodies
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not node.target.id.startswith("_")
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    assert documented == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://auth.example:443/base", "https://auth.example/base"),
        ("https://auth.example:0443", "https://auth.example"),
        ("https://auth.example:", "https://auth.example"),
        ("http://[::1]:80", "http://[::1]"),
        ("http://auth.example:443", "http://auth.example:443"),
        ("https://auth.example:08443", "https://auth.example:8443"),
    ],
    ids=range(6),
)
def test_public_url_is_serialized_like_an_origin(written: str, expected: str) -> None:
    assert Settings(public_url=written).public_url == expected


@pytest.mark.parametrize(
    ("written", "networks"),
    [
        ("10.0.0.0/8, 127.0.0.1", ("10.0.0.0/8", "127.0.0.1")),
        ("::ffff:10.0.0.0/104", ("10.0.0.0/8",)),
        ("::FFFF:A00:0/104 ::1", ("10.0.0.0/8", "::1")),
        ("0:0:0:0:0:ffff:10.1.2.3", ("10.1.2.3/32",)),
        ("::ffff:0:0/96", ("0.0.0.0/0",)),
        # Networks that are not only IPv4-mapped addresses stay as they are.
        ("2001:DB8::/32", ("2001:DB8::/32",)),
        ("::/0", ("::/0",)),
        ("::10.0.0.0/104", ("::10.0.0.0/104",)),
    ],
)
@pytest.mark.parametrize("load", [load_settings, load_edge_settings])
def test_ipv4_mapped_networks_become_ipv4(
    monkeypatch: pytest.MonkeyPatch,
    load: Callable[[], EdgeSettings],
    written: str,
    networks: tuple[str, ...],
) -> None:
    monkeypatch.setenv("AUTHAPI_TRUSTED_PROXIES", written)
    assert load().trusted_proxies == networks


@pytest.mark.parametrize(
    "written",
    ["x", "10.0.0.1/8", "::ffff:10.0.0.1/104", "::ffff:10.0.0.0/129", "[::1]", "::1:80::"],
)
def test_invalid_networks_are_rejected(written: str) -> None:
    assert "each must be a network such as 10.0.0.0/8" in error_of(trusted_proxies=written)


@pytest.mark.parametrize("written", ["::ffff:10.0.0.0/104", "10.0.0.0/8", "::FFFF:A00:1"])
def test_ipv4_mapped_proxy_is_trusted(written: str) -> None:
    networks = [ip_network(text) for text in Settings(trusted_proxies=(written,)).trusted_proxies]
    read = partial(
        read_client,
        [(b"x-forwarded-for", b"192.0.2.1")],
        trusted=networks,
        request_id="id",
        on_malformed=pytest.fail,
    )
    for peer in ("10.0.0.1", "::ffff:10.0.0.1"):
        assert read((peer, 1)).ip == "192.0.2.1"
    assert read(("192.0.2.9", 1)).ip == "192.0.2.9"


@pytest.mark.parametrize("value", ["999999999999", "P99999999D", "3155760001"])
def test_too_long_durations_are_rejected(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A login would fail with 500, because its expiry would be beyond the range of datetime."""
    names = [
        name
        for name, field in Settings.model_fields.items()
        if field.annotation is timedelta and name != "refresh_grace"
    ]
    assert len(names) > 15
    for name in names:
        with monkeypatch.context() as patch:
            patch.setenv(f"AUTHAPI_{name.upper()}", value)
            with pytest.raises(ConfigurationError, match=f"AUTHAPI_{name.upper()}"):
                load_settings()
