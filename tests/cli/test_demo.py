"""`authapi demo` as a developer runs it."""

import json
import secrets

from tests.cli.conftest import Run, failed_with_one_line

PASSWORD = "correct horse battery staple"


def test_demo_adds_ten_people_with_what_belongs_to_them(run: Run) -> None:
    added = json.loads(run("demo", "--json").stdout)
    assert len(added["accounts"]) == 10
    assert len(added["password"]) == 16
    assert json.loads(run("mail", "list", "--json").stdout)["items"] == []

    rows = {item["email"]: item for item in added["accounts"]}
    assert sum(item["is_superuser"] for item in rows.values()) == 1
    assert sum(not item["is_active"] for item in rows.values()) == 1
    assert sum(not item["password"] for item in rows.values()) == 1
    sessions = json.loads(run("sessions", "list", "mina.park@example.com", "--json").stdout)[
        "items"
    ]
    assert [item["kind"] for item in sessions].count("token") == 2
    assert len({item["user_agent"] for item in sessions if item["kind"] == "session"}) == 3
    events = json.loads(run("events", "list", "--limit", "1000", "--json").stdout)["items"]
    assert [item["at"] for item in events] == sorted((item["at"] for item in events), reverse=True)
    assert {"account_registered", "login", "login_refused", "token_created", "factor_added"} <= {
        item["type"] for item in events
    }

    assert "the database has accounts already" in failed_with_one_line(run("demo"))
    assert len(json.loads(run("users", "list", "--json").stdout)["items"]) == 10


def test_demo_prints_a_table_and_the_password(run: Run) -> None:
    printed = run("demo", "--password", PASSWORD).stdout
    assert printed.endswith(f"\nThe password of all accounts: {PASSWORD}\n")
    assert len(printed.splitlines()) == 1 + 10 + 2


def test_demo_is_refused_in_production(run: Run) -> None:
    refused = failed_with_one_line(
        run(
            "demo",
            env="production",
            public_url="https://auth.example.com",
            secret=secrets.token_hex(32),
            database_url="sqlite:///production.db",
            allow_sqlite="true",
        )
    )
    assert "for development" in refused
    assert "common" in failed_with_one_line(run("demo", "--password", "passwordpassword"))
