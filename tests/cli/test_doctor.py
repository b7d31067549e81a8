"""`authapi doctor`: its findings and its output."""

import asyncio
import io
import json
import os
import re
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from authapi.cli.doctor import examine, print_report
from authapi.diagnostics.examination import GROUPS
from authapi.domain.client import Client
from authapi.domain.monitoring.findings import Finding
from authapi.storage import migrations
from authapi.storage.schema.revisions import number
from tests.cli.conftest import Run
from tests.servers.forked import Forking
from tests.servers.process import free_port
from tests.servers.valkey import ValkeyServer
from tests.services.restores.test_newest import prepare
from tests.storage.pooling import pooling
from tests.storage.rows import sql, store_login
from tests.web.scanners import Scanner, publish

RELYING_PARTY = "authapi.services.factors.webauthn.relying_party"

SECRET = "3f9a1c7e5b2d8f604a6c8e0b1d3f5a7c"


@pytest.fixture
def production(
    monkeypatch: pytest.MonkeyPatch, sqlite_url: str, tmp_path: Path
) -> pytest.MonkeyPatch:
    """A valid production environment, which tests then change."""
    for name, value in {
        "ENV": "production",
        "SECRET": SECRET,
        "PUBLIC_URL": "https://auth.example.com",
        "DATABASE_URL": sqlite_url,
        "ALLOW_SQLITE": "true",
        "TRUSTED_PROXIES": "10.0.0.0/8",
        "MFA_REQUIRED_SUPERUSERS": "true",
        "MAIL_URL": f"folder:{tmp_path}/mail",
    }.items():
        monkeypatch.setenv(f"AUTHAPI_{name}", value)
    return monkeypatch


def found(check: str) -> list[Finding]:
    return [item for item in examine() if item.check == check]


def worst(check: str) -> Finding:
    return max(found(check), key=lambda item: ("ok", "warning", "error").index(item.verdict))


@pytest.fixture
def doctor(forking: Forking, tmp_path: Path) -> Run:
    """Runs `authapi doctor` in the current environment of this process."""
    return lambda *options: forking.run(["doctor", *options], dict(os.environ), tmp_path)


def test_valid_production_configuration_has_no_findings(
    doctor: Run, production: pytest.MonkeyPatch
) -> None:
    assert {item.verdict for item in examine()} == {"ok"}
    done = doctor("--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert {row["check"] for row in rows} >= {"settings", "strategies", "database"}
    assert all(set(row) == {"check", "verdict", "message"} for row in rows)


def test_development_defaults_have_no_findings(doctor: Run) -> None:
    assert {item.verdict for item in examine()} == {"ok"}
    assert worst("database").message == "SQLite, not created yet: authapi serve creates it"
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert doctor("--plain").stdout.splitlines()[0].split("\t") == ["check", "verdict", "message"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SECRET", "", "production needs AUTHAPI_SECRET"),
        ("PUBLIC_URL", "", "production needs AUTHAPI_PUBLIC_URL"),
        ("DATABASE_URL", "", "production needs AUTHAPI_DATABASE_URL"),
        ("SECRET", SECRET[:31], "AUTHAPI_SECRET: must have at least 32 characters"),
        ("SECRET", "changeme" * 5, "AUTHAPI_SECRET is not random"),
        ("ALLOW_SQLITE", "false", "production on SQLite needs AUTHAPI_ALLOW_SQLITE=true"),
        ("PUBLIC_URL", "http://auth.example.com", "production needs an https public_url"),
    ],
)
def test_settings_that_serve_rejects_are_errors(
    doctor: Run, production: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    production.setenv(f"AUTHAPI_{name}", value)
    (finding,) = examine()
    assert (finding.check, finding.verdict) == ("settings", "error")
    assert message in finding.message
    done = doctor("--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert [row["verdict"] for row in json.loads(done.stdout)] == ["error"]


def test_secret_file_that_other_users_can_access(
    production: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    production.delenv("AUTHAPI_SECRET")
    production.setenv("AUTHAPI_SECRET_FILE", str(path))
    path.chmod(0o644)
    assert "chmod o-r" in worst("settings").message
    path.chmod(0o602)  # other users cannot read it, but can write it
    assert worst("secret").verdict == "error"
    path.chmod(0o600)
    assert worst("secret").verdict == "ok"


def test_dotenv_that_other_users_can_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".env"
    path.write_text(f"AUTHAPI_SECRET={SECRET}\n")
    path.chmod(0o644)
    assert worst("secret").verdict == "error"
    assert worst("secret").message.startswith(".env ")
    path.chmod(0o600)
    assert worst("secret").verdict == "ok"
    path.write_text("AUTHAPI_DOCS=true\n")
    path.chmod(0o644)
    assert found("secret") == []
    path.write_text(f"AUTHAPI_SECRET={SECRET}\n")
    monkeypatch.setenv("AUTHAPI_ENV", "production")
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", "https://auth.example.com")
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", "postgresql://db/authapi")
    told = ".env contains AUTHAPI_SECRET and is readable by all users: chmod o-r"
    assert worst("settings").message == told


def test_secret_file_that_a_group_can_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    path.chmod(0o640)
    monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(path))
    monkeypatch.setattr("authapi.diagnostics.files.other_readers", lambda _: "its group")
    assert worst("secret").message == f"{path} is readable by its group: chmod g-r"


def test_data_folder_and_generated_secret_with_open_modes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "secret").write_text(SECRET)
    (data / "secret").chmod(0o600)
    assert (worst("data folder").verdict, worst("secret").verdict) == ("ok", "ok")
    data.chmod(0o755)
    (data / "secret").chmod(0o644)
    assert (worst("data folder").verdict, worst("secret").verdict) == ("error", "error")
    assert "mode 0755" in worst("data folder").message


def test_missing_trusted_proxies_is_a_warning(doctor: Run, production: pytest.MonkeyPatch) -> None:
    production.delenv("AUTHAPI_TRUSTED_PROXIES")
    finding = worst("limits")
    assert finding.verdict == "warning"
    assert "AUTHAPI_TRUSTED_PROXIES" in finding.message
    assert doctor().returncode == 0  # a warning, not an error


def test_events_without_client_address_are_a_warning(
    doctor: Run, production: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    request = {"request_id": "0" * 32}
    for client, age in (
        (Client(ip="192.0.2.1", **request), 1),
        (Client(), 1),  # the command line
        (Client(**request), 25),
    ):
        at = datetime.now(UTC) - timedelta(hours=age)
        asyncio.run(store_login(sqlite_url, client, at=at))
    assert found("addresses") == []
    for age in (1, 23):
        at = datetime.now(UTC) - timedelta(hours=age)
        asyncio.run(store_login(sqlite_url, Client(**request), at=at))
    finding = worst("addresses")
    assert finding.verdict == "warning"
    assert finding.message.startswith("2 event(s) of the last day ")
    assert "X-Forwarded-For" in finding.message
    assert doctor().returncode == 0  # a warning, not an error
    production.setenv("AUTHAPI_DATABASE_URL", f"postgresql://127.0.0.1:{free_port()}/x")
    assert found("addresses") == []


def test_workers_without_redis_are_a_warning(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_WORKERS", "4")
    finding = worst("limits")
    assert finding.verdict == "warning"
    assert finding.message.startswith("each of 4 processes counts separately")


@pytest.mark.parametrize(
    "url", ["redis://me:hunter2hunter2@127.0.0.1:{}/0", "redis://127.0.0.1:{}/0?password=hunter2h2"]
)
def test_unavailable_redis_is_an_error(
    doctor: Run, production: pytest.MonkeyPatch, url: str
) -> None:
    production.setenv("AUTHAPI_REDIS_URL", url.format(free_port()))
    finding = worst("limits")
    assert finding.verdict == "error"
    assert "does not respond" in finding.message
    done = doctor()
    assert (done.returncode, done.stderr) == (1, "")
    assert "hunter2" not in done.stdout


@pytest.mark.parametrize("url", ["http://me:hunter2hunter2@127.0.0.1/", "hunter2hunter2"])
def test_invalid_redis_url_does_not_stop_other_checks(
    production: pytest.MonkeyPatch, url: str
) -> None:
    production.setenv("AUTHAPI_REDIS_URL", url)
    findings = list(examine())  # a failed check does not stop the others
    assert worst("limits").verdict == "error"
    assert {"transport", "docs", "database"} & {item.check for item in findings}
    assert "hunter2" not in repr(findings)


def test_basic_strategy_is_a_warning(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_STRATEGIES", "session, basic")
    assert worst("strategies").verdict == "warning"


def test_unknown_strategy_is_an_error(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_STRATEGIES", "session, carrier_pigeon")
    finding = worst("strategies")
    assert finding.verdict == "error"
    assert "carrier_pigeon" in finding.message


def test_docs_in_production_are_a_warning(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_DOCS", "true")
    assert worst("docs").verdict == "warning"


def test_plain_http_on_public_address_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, verdict in (("0.0.0.0", "warning"), ("::", "warning"), ("10.0.0.1", "warning")):
        monkeypatch.setenv("AUTHAPI_HOST", host)
        assert worst("transport").verdict == verdict
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3", "::ffff:127.0.0.1"):
        monkeypatch.setenv("AUTHAPI_HOST", host)
        assert found("transport") == []


def test_old_postgres_schema_is_an_error(
    doctor: Run, production: pytest.MonkeyPatch, postgres_url: str
) -> None:
    production.setenv("AUTHAPI_DATABASE_URL", postgres_url)
    assert [item.verdict for item in found("database")] == ["ok", "warning"]
    assert "sslmode=verify-full" in worst("database").message
    migrations.downgrade(postgres_url, "base")
    finding = worst("database")
    assert finding.verdict == "error"
    assert "is at nothing" in finding.message
    assert "authapi db upgrade" in finding.message
    password = postgres_url.split(":")[2].split("@", maxsplit=1)[0]
    assert password not in doctor().stdout


async def test_connection_poolers_are_reported(
    production: pytest.MonkeyPatch, postgres_url: str
) -> None:
    async with pooling(postgres_url) as pooler:
        production.setenv("AUTHAPI_DATABASE_URL", pooler.url)
        finding = (await asyncio.to_thread(found, "database"))[0]
        assert finding.verdict == "error"
        assert "shares sessions between clients" in finding.message
        assert "connect to PostgreSQL directly, or set pool_mode = session" in finding.message
    async with pooling(postgres_url, mode="session") as pooler:
        production.setenv("AUTHAPI_DATABASE_URL", pooler.url)
        findings = await asyncio.to_thread(found, "database")
        assert [item.verdict for item in findings] == ["ok", "warning", "warning"]
        assert "connected through a connection pooler" in findings[1].message
    async with pooling(postgres_url, mode="session", refuses_options=True) as pooler:
        production.setenv("AUTHAPI_DATABASE_URL", pooler.url)
        findings = await asyncio.to_thread(found, "database")
        assert [item.verdict for item in findings] == ["ok", "warning", "warning"]


def test_empty_database_is_reported(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    production.setenv("AUTHAPI_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    assert "is at nothing" in worst("database").message


def test_newer_schemas_are_told(
    production: pytest.MonkeyPatch, postgres_url: str, sqlite_url: str
) -> None:
    usable = f"9999_beside_{number(migrations.head())}"
    for url in (postgres_url, sqlite_url):
        production.setenv("AUTHAPI_DATABASE_URL", url)
        sql(url, f"UPDATE authapi_version SET version_num = '{usable}'")
        finding = found("database")[0]
        assert finding.verdict == "ok"
        assert f"at {usable}, newer than {migrations.head()} and usable" in finding.message
        sql(url, "UPDATE authapi_version SET version_num = '9999_beside_9998'")
        finding = worst("database")
        assert "which code before 9998 cannot use" in finding.message
        assert "start a newer release" in finding.message
        assert "authapi serve" not in finding.message, "it would refuse too"
        assert finding.verdict == "error"


def test_old_schema_that_serve_upgrades_is_a_warning(
    production: pytest.MonkeyPatch, sqlite_url: str
) -> None:
    production.setenv("AUTHAPI_DATABASE_URL", sqlite_url)
    migrations.downgrade(sqlite_url, "base")
    finding = worst("database")
    assert finding.verdict == "warning"
    assert "is at nothing" in finding.message
    production.setenv("AUTHAPI_MIGRATE", "false")
    assert worst("database").verdict == "error"


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_files_of_database_and_redis_urls_are_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sqlite_url: str, name: str
) -> None:
    path = tmp_path / "url"
    path.write_text({"DATABASE_URL": sqlite_url, "REDIS_URL": "redis://127.0.0.1:1/0"}[name])
    path.chmod(0o604)
    monkeypatch.setenv(f"AUTHAPI_{name}_FILE", str(path))
    assert worst("secret").verdict == "error"
    assert str(path) in worst("secret").message
    path.chmod(0o600)
    assert worst("secret").verdict == "ok"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2hunter2@127.0.0.1:{}/authapi",
        "postgresql://127.0.0.1:{}/authapi?user=me&password=hunter2hunter2&sslpassword=hunter2h2",
    ],
)
def test_unavailable_database_is_an_error(
    doctor: Run, production: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    production.setenv("AUTHAPI_DATABASE_URL", url.format(free_port()))
    assert worst("database").message.startswith("the database is not available: connection")
    assert "refused" in worst("database").message
    done = doctor()
    assert (done.returncode, done.stderr) == (1, "")
    assert "hunter2" not in done.stdout
    production.setenv("AUTHAPI_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/authapi.db")
    assert worst("database").verdict == "error"


def test_file_that_is_not_a_database_is_an_error(
    production: pytest.MonkeyPatch, tmp_path: Path, sqlite_template: Path
) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is not a database, in spite of its name " * 100)
    production.setenv("AUTHAPI_DATABASE_URL", f"sqlite:///{path}")
    assert worst("database").verdict == "error"
    shutil.copy(sqlite_template, path)
    assert worst("database").verdict == "ok"


def test_secret_is_tested_on_the_signing_keys(
    production: pytest.MonkeyPatch, forking: Forking, tmp_path: Path
) -> None:
    assert worst("signing keys").message == "none yet: authapi serve creates them"
    create = ["users", "create", "alice@example.com"]
    done = forking.run(create, dict(os.environ), tmp_path, "correct horse battery staple")
    assert (done.returncode, done.stderr) == (0, "")
    assert worst("signing keys").message.startswith("2 keys; AUTHAPI_SECRET decrypts")
    production.setenv("AUTHAPI_SECRET", SECRET[::-1])
    finding = worst("signing keys")
    assert finding.verdict == "error"
    assert "another secret" in finding.message


def test_doctor_creates_no_secret(tmp_path: Path) -> None:
    assert found("signing keys") == []
    assert not (tmp_path / "data").exists()


def test_scanner_keys_are_reported(production: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert found("leak reports") == []
    path = tmp_path / "scanners.json"
    production.setenv("AUTHAPI_LEAK_REPORT_KEYS", str(path))
    assert worst("leak reports").verdict == "error"
    publish(path, Scanner("a"), Scanner("b"))
    assert worst("leak reports") == Finding("leak reports", "ok", "accepted from: a, b")


def test_http_finding_names_the_protocol_class() -> None:
    [finding] = found("http")
    assert finding.verdict == "ok"
    assert "--http authapi:HTTPProtocol" in finding.message


def test_unknown_variable_is_a_warning(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_TRUSTED_PROXY", "hunter2")
    finding = worst("settings")
    assert finding.verdict == "warning"
    assert finding.message == (
        "AUTHAPI_TRUSTED_PROXY is not a setting and has no effect:"
        " did you mean AUTHAPI_TRUSTED_PROXIES?"
    )
    # Also if the settings are invalid, which may be the cause.
    production.setenv("AUTHAPI_PORT", "hunter2")
    assert [item.verdict for item in found("settings")] == ["error", "warning"]
    assert "hunter2" not in repr(found("settings"))


def test_passkeys_belong_to_the_host_of_the_url(production: pytest.MonkeyPatch) -> None:
    assert worst("passkeys").message == "they belong to auth.example.com"
    production.setenv("AUTHAPI_PASSKEY_RP_ID", "example.com")
    assert worst("passkeys").message == "they belong to example.com"
    for domain in ("example.org", "ample.com", "www.auth.example.com"):
        production.setenv("AUTHAPI_PASSKEY_RP_ID", domain)
        assert worst("passkeys").verdict == "error"
        assert "browsers refuse it" in worst("passkeys").message
    # Another page of the domain uses the passkeys.
    production.setenv("AUTHAPI_PASSKEY_RP_ID", "example.org")
    production.setenv("AUTHAPI_PASSKEY_ORIGINS", "https://example.org")
    assert worst("passkeys").verdict == "ok"


def test_passkeys_need_a_domain_and_their_extra(production: pytest.MonkeyPatch) -> None:
    production.setattr(
        "authapi.services.factors.webauthn.relying_party.is_installed", lambda: False
    )
    finding = worst("passkeys")
    assert finding.verdict == "warning"
    assert "pip install 'fastapi-authapi[passkeys]'" in finding.message
    production.setenv("AUTHAPI_PASSKEYS", "off")
    assert found("passkeys") == []


def test_an_address_is_no_domain(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_PUBLIC_URL", "https://10.0.0.1")
    finding = worst("passkeys")
    assert (finding.verdict, "Passkeys need a domain" in finding.message) == ("warning", True)


def test_development_opens_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_PORT", "9000")
    assert worst("passkeys").message == (
        "they belong to localhost: open http://localhost:9000, "
        "because browsers refuse them at 127.0.0.1"
    )
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", "http://localhost:9000")
    assert worst("passkeys").message == "they belong to localhost"


def test_findings_are_grouped_with_remedies_and_a_total(
    doctor: Run, production: pytest.MonkeyPatch
) -> None:
    production.setenv("AUTHAPI_WORKERS", "4")
    production.setenv("AUTHAPI_DOCS", "true")
    production.setenv("PYTHONIOENCODING", "utf-8")
    lines = doctor().stdout.splitlines()
    groups = [line for line in lines[:-1] if not line.startswith(" ")]
    assert groups == [group for group in GROUPS if group in groups]
    assert {"Settings", "Database", "Limits", "Mail", "Network"} <= {*groups}
    number = lines.index(next(line for line in lines if "each of 4 processes" in line))
    assert lines[number].split()[:3] == ["!", "warning", "limits"]
    assert lines[number].endswith("each of 4 processes counts separately")
    assert lines[number + 1] == "    → set AUTHAPI_REDIS_URL"
    assert lines[-1] == "2 warnings, 0 errors"
    production.setenv("AUTHAPI_STRATEGIES", "pigeon")
    assert doctor().stdout.splitlines()[-1] == "2 warnings, 1 error"


def test_every_check_has_a_group(production: pytest.MonkeyPatch, postgres_url: str) -> None:
    production.setenv("AUTHAPI_DATABASE_URL", postgres_url)
    named = [check for checks in GROUPS.values() for check in checks]
    assert len(named) == len(set(named))
    assert {item.check for item in examine()} <= {*named}


def test_a_terminal_shows_colours_and_nothing_of_a_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    print_report([Finding.advising("mail", "error", "[bold]a\x1b[2J", "do [red]b")])
    text = shown.getvalue()
    assert "\x1b[1;31m  ✕ error" in text
    assert "[bold]a?[2J" in text
    assert "→ do [red]b" in text
    assert text.endswith("0 warnings, 1 error\n")


def test_an_output_without_these_characters_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    class Output(io.StringIO):
        encoding = "ascii"

    monkeypatch.setattr(sys, "stdout", shown := Output())
    print_report([Finding.advising("mail", "error", "off", "set it"), Finding("docs", "ok", "on")])
    assert shown.getvalue().splitlines() == [
        *("Settings", "  + ok       docs  on"),
        *("Mail", "  x error    mail  off", "    -> set it"),
        "0 warnings, 1 error",
    ]


def test_mail_off_in_production_is_a_warning(production: pytest.MonkeyPatch) -> None:
    production.setenv("AUTHAPI_MAIL_URL", "none:")
    finding = worst("mail")
    assert (finding.verdict, finding.remedy) == ("warning", "set AUTHAPI_MAIL_URL")
    production.delenv("AUTHAPI_MAIL_URL")
    assert worst("mail").verdict == "warning"


def test_eviction_of_counters_is_a_warning(
    production: pytest.MonkeyPatch, valkey: ValkeyServer
) -> None:
    production.setenv("AUTHAPI_REDIS_URL", valkey.url)
    assert {item.verdict for item in found("limits")} == {"ok"}
    assert re.search(r"Valkey \d+\.\d+\.\d+, which evicts no counters", repr(found("limits")))
    client = redis.Redis.from_url(valkey.url)
    try:
        client.config_set("maxmemory-policy", "allkeys-lru")
        finding = worst("limits")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert finding.verdict == "warning"
    assert "(allkeys-lru)" in finding.message


def test_the_service_is_asked_only_if_told_so(doctor: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", f"http://127.0.0.1:{free_port()}")
    assert "public url" not in doctor("--json").stdout
    done = doctor("--online", "--json")
    assert done.returncode == 1
    [row] = [row for row in json.loads(done.stdout) if row["check"] == "public url"]
    assert row["verdict"] == "error"


async def test_a_restored_database_is_a_warning(
    production: pytest.MonkeyPatch, sqlite_url: str, tmp_path: Path
) -> None:
    production.setenv("AUTHAPI_DATA_DIR", str(tmp_path / "data"))
    await prepare(sqlite_url, tmp_path / "data", secret=SECRET)
    [finding] = await asyncio.to_thread(found, "restore")
    assert finding.verdict == "warning"
    assert "`authapi sessions end --all`" in finding.message
    await asyncio.to_thread(found, "restore")  # it changes nothing
    assert len(await asyncio.to_thread(found, "restore")) == 1


def test_a_change_of_the_secret_is_a_warning(production: pytest.MonkeyPatch) -> None:
    assert {finding.verdict for finding in found("signing keys")} == {"ok"}
    production.setenv("AUTHAPI_SECRET_PREVIOUS", SECRET[::-1])
    finding = worst("signing keys")
    assert finding.verdict == "warning"
    assert "`authapi keys rewrap`" in finding.message
    assert SECRET[::-1] not in finding.message
