"""Missing database privileges: findings of `authapi doctor`, and responses to requests."""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from authapi import Settings, create_app
from authapi.cli.doctor import examine
from authapi.domain.monitoring.findings import Finding
from authapi.testing import PASSWORD, Client, client
from tests.servers.forked import Forking
from tests.storage.roles import ANONYMISED, CHANGED, restricted
from tests.storage.rows import sql

CLEAN = "old events are never removed"


@pytest.fixture
def name(worker: str) -> str:
    return f"restricted_{worker}"


@pytest.fixture
def role_url(fresh_postgres_url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with restricted(fresh_postgres_url, name) as url:
        monkeypatch.setenv("AUTHAPI_DATABASE_URL", url)
        yield url


def found() -> list[Finding]:
    return [item for item in examine() if item.check == "privileges"]


def errors() -> list[str]:
    return [item.message for item in found() if item.verdict == "error"]


async def everything(api: Client) -> dict[str, int]:
    """Reads and writes every table with one account. Returns the status of each response."""
    address = {"email": "alice@example.com", "password": PASSWORD}
    answers = {}
    for label, method, path, body in (
        ("register", "POST", "/register", address),
        ("refreshable", "POST", "/login", {**address, "strategy": "jwt"}),
        ("login", "POST", "/login", address),
        ("me", "GET", "/me", None),
        ("rename", "PATCH", "/me", {"name": "Alice"}),
        ("token", "POST", "/me/tokens", {"name": "x"}),
        ("forgot", "POST", "/password/forgot", {"email": address["email"]}),
        ("others", "DELETE", "/me/sessions", None),
        ("logout", "POST", "/logout", None),
        ("again", "POST", "/login", address),
        ("delete", "DELETE", "/me", None),
    ):
        answer = await api.request(method, path, json=body)
        answers[label] = answer.status_code
        if answer.status_code == 503 and label != "forgot":
            assert answer.json()["code"] == "database_unavailable"
    removed = await api.services.cleanup.run_once()
    answers["cleanup"] = len(removed)
    return answers


def app_on(url: str) -> AbstractAsyncContextManager[Client]:
    return client(create_app(Settings(database_url=url)))  # type: ignore[arg-type]


async def test_documented_role_can_do_everything_except_delete_events(role_url: str) -> None:
    async with app_on(role_url) as api:
        answers = await everything(api)
    assert answers.pop("cleanup") == 8  # of nine jobs: old events are not removed
    assert set(answers.values()) <= {200, 201, 202, 204}, answers
    [finding] = await asyncio.to_thread(found)
    assert finding.verdict == "warning"
    assert (
        "may not DELETE authapi_events: GRANT DELETE ON public.authapi_events TO" in finding.message
    )
    assert CLEAN in finding.message


def test_role_with_all_privileges_has_no_findings(
    role_url: str, fresh_postgres_url: str, name: str
) -> None:
    sql(fresh_postgres_url, f"GRANT DELETE ON authapi_events TO {name}")
    assert [item.verdict for item in found()] == ["ok"]


def test_an_owner_of_the_tables_is_a_warning_in_production(
    fresh_postgres_url: str, role_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_SECRET", "0f1e2d3c4b5a6978" * 2)
    monkeypatch.setenv("AUTHAPI_ENV", "production")
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", "https://auth.example.com")
    sql(fresh_postgres_url, f"GRANT DELETE ON authapi_events TO {name}")
    assert [item.verdict for item in found()] == ["ok"], "a role that owns no table"
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", fresh_postgres_url)
    [finding] = found()
    assert finding.verdict == "warning"
    assert "may alter and drop the tables" in finding.fact
    assert "AUTHAPI_MIGRATE" not in str(finding.remedy)
    monkeypatch.setenv("AUTHAPI_MIGRATE", "true")
    [finding] = found()
    assert "AUTHAPI_MIGRATE=false" in str(finding.remedy)
    monkeypatch.setenv("AUTHAPI_ENV", "development")
    assert [item.verdict for item in found()] == ["ok"]


def test_a_role_that_has_to_migrate_and_may_not_is_a_warning(
    fresh_postgres_url: str, role_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(fresh_postgres_url, f"GRANT DELETE ON authapi_events TO {name}")
    monkeypatch.setenv("AUTHAPI_MIGRATE", "true")
    [finding] = found()
    assert finding.verdict == "warning"
    assert "may not change the schema" in finding.fact
    assert "AUTHAPI_MIGRATE=false" in str(finding.remedy)


@pytest.mark.slow
@pytest.mark.parametrize("privilege", ["SELECT", "INSERT", "UPDATE", "DELETE"])
@pytest.mark.parametrize("table", CHANGED)
async def test_missing_privilege_is_reported_and_is_503(
    role_url: str,
    fresh_postgres_url: str,
    name: str,
    table: str,
    privilege: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with app_on(role_url) as api:
        sql(fresh_postgres_url, f"REVOKE {privilege} ON {table} FROM {name}")
        [message] = await asyncio.to_thread(errors)
        assert message == (
            f"the role {name} may not {privilege} {table}:"
            f" GRANT {privilege} ON public.{table} TO {name}"
        )
        caplog.clear()
        answers = await everything(api)
        assert 500 not in answers.values(), answers
        if 503 in answers.values():
            lines = [
                it
                for it in caplog.records
                if f"permission denied for table {table}" in it.getMessage()
            ]
            assert lines
            assert {it.levelno for it in lines} == {logging.ERROR}
            assert lines[0].__dict__["sqlstate"] == "42501"


async def test_logout_without_delete_privilege_fails(
    role_url: str, fresh_postgres_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with app_on(role_url) as api:
        await api.login(await api.create_user(), strategy="token")
        sql(fresh_postgres_url, f"REVOKE DELETE ON authapi_sessions FROM {name}")
        answer = await api.post("/logout")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert "permission denied" not in answer.text
        assert "retry-after" in answer.headers
        [line] = [it for it in caplog.records if "permission denied" in it.getMessage()]
        assert "sessions" in line.getMessage()
        assert line.__dict__["request_id"] == answer.json()["request_id"]
        assert "alice" not in line.getMessage()
        sql(fresh_postgres_url, f"GRANT DELETE ON authapi_sessions TO {name}")
        assert (await api.post("/logout")).status_code == 204
        assert (await api.get("/me")).status_code == 401


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("REVOKE SELECT ON authapi_events FROM {}", "may not SELECT authapi_events"),
        ("REVOKE INSERT ON authapi_events FROM {}", "may not INSERT authapi_events"),
        ("REVOKE UPDATE (ip) ON authapi_events FROM {}", "UPDATE (ip) ON public.authapi_events"),
        (
            f"REVOKE UPDATE ({', '.join(ANONYMISED)}) ON authapi_events FROM {{}}",
            f"GRANT UPDATE ({', '.join(ANONYMISED)}) ON public.authapi_events",
        ),
        (
            "REVOKE SELECT, DELETE ON authapi_users FROM {}",
            "may not SELECT or DELETE authapi_users",
        ),
        (
            "REVOKE ALL ON authapi_sessions FROM {}",
            "SELECT, INSERT, UPDATE, DELETE ON public.authapi_sessions",
        ),
        ("REVOKE SELECT ON authapi_version FROM {}", "SELECT ON public.authapi_version"),
        ("REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC", "call pg_notify(text,text)"),
        (
            "ALTER TABLE authapi_sessions ENABLE ROW LEVEL SECURITY",
            "hides rows of public.authapi_sessions",
        ),
    ],
)
def test_doctor_names_the_grant(
    role_url: str, fresh_postgres_url: str, name: str, statement: str, words: str
) -> None:
    sql(fresh_postgres_url, statement.format(name))
    [message] = errors()
    assert words in message
    remedy = message.rpartition(": ")[2]
    sql(fresh_postgres_url, remedy)  # the statement fixes it
    assert errors() == []


def test_schema_without_usage_privilege_is_reported(
    role_url: str, fresh_postgres_url: str, name: str
) -> None:
    sql(fresh_postgres_url, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    [message] = errors()
    assert message == (
        f"the role {name} may not use the schema public: GRANT USAGE ON SCHEMA public TO {name}"
    )
    sql(fresh_postgres_url, message.rpartition(": ")[2])
    assert errors() == []


def test_erasing_events_requires_the_delete_privilege(
    role_url: str, fresh_postgres_url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_DELETED_EVENTS", "erase")
    [message] = errors()
    assert message.endswith(f"GRANT DELETE ON public.authapi_events TO {name}")
    sql(
        fresh_postgres_url, f"REVOKE UPDATE ({', '.join(ANONYMISED)}) ON authapi_events FROM {name}"
    )
    sql(fresh_postgres_url, f"GRANT DELETE ON authapi_events TO {name}")
    assert errors() == []  # nothing is anonymized in this case


def test_names_are_quoted_if_necessary(
    fresh_postgres_url: str, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f'"Odd role_{worker}"'
    sql(fresh_postgres_url, 'ALTER SCHEMA public RENAME TO "My schema"')
    url = f"{fresh_postgres_url}?options=-csearch_path%3D%22My%5C%20schema%22"
    sql(fresh_postgres_url, f"CREATE ROLE {name} LOGIN PASSWORD 'canary'")
    sql(fresh_postgres_url, f'GRANT USAGE ON SCHEMA "My schema" TO {name}')
    try:
        host = url.rpartition("@")[2]
        monkeypatch.setenv(
            "AUTHAPI_DATABASE_URL", f"postgresql://Odd%20role_{worker}:canary@{host}"
        )
        messages = errors()
        assert len(messages) == 17
        assert messages[0].endswith(f'GRANT SELECT ON "My schema".authapi_version TO {name}')
        for message in messages:
            sql(fresh_postgres_url, message.rpartition(": ")[2])
        assert errors() == []
    finally:
        sql(fresh_postgres_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "command"),
    [
        ("authapi_users", ["users", "list"]),
        ("authapi_signing_keys", ["keys", "list"]),
        ("authapi_signing_keys", ["serve", "--port", "0"]),
        ("authapi_version", ["db", "current"]),
        ("authapi_version", ["users", "list"]),
    ],
)
def test_command_names_the_table_in_one_line(
    role_url: str,
    fresh_postgres_url: str,
    name: str,
    table: str,
    command: list[str],
    forking: Forking,
    tmp_path: Path,
) -> None:
    sql(fresh_postgres_url, f"REVOKE SELECT ON {table} FROM {name}")
    done = forking.run(command, dict(os.environ), tmp_path)
    assert done.returncode == 1
    lines = (done.stdout + done.stderr).splitlines()
    told = [line for line in lines if f"permission denied for table {table}" in line]
    assert [line for line in told if line.startswith("authapi: ")] == told[-1:]
    assert not [line for line in lines if "Traceback" in line]
    assert command[0] == "serve" or done.stderr.splitlines() == told


def test_sqlite_has_no_privileges(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", sqlite_url)
    assert found() == []
