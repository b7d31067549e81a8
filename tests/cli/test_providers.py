"""`authapi providers`: list and check; and doctor on providers."""

import json
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Run, failed_with_one_line
from tests.servers.openid import CLIENT_ID, CLIENT_SECRET, OpenIDServer
from tests.verify.issuer import OPENID, Reply

URI = "https://auth.example/login/with/acme/callback"


@pytest.fixture
def server() -> Iterator[OpenIDServer]:
    with OpenIDServer() as found:
        yield found


def settings(server: OpenIDServer) -> dict[str, str]:
    return {
        "public_url": "https://auth.example",
        "providers": json.dumps({"acme": server.options(title="Acme Inc.")}),
    }


def test_list(run: Run, server: OpenIDServer) -> None:
    done = run("providers", "list", "--json", **settings(server))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["items"] == [
        {
            "name": "acme",
            "title": "Acme Inc.",
            "issuer": server.url,
            "client_id": CLIENT_ID,
            "redirect_uri": URI,
        }
    ]
    assert server.asked == {}
    shown = run("providers", "list", **settings(server))
    assert URI in shown.stdout
    assert CLIENT_SECRET not in shown.stdout + done.stdout


def test_check(run: Run, server: OpenIDServer) -> None:
    done = run("providers", "check", "--json", **settings(server))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == [
        {"name": "acme", "answers": True, "problem": None, "redirect_uri": URI}
    ]
    server.replies[OPENID] = Reply({}, 503)
    done = run("providers", "check", "--json", **settings(server))
    assert done.returncode == 1
    [row] = json.loads(done.stdout)["items"]
    assert (row["answers"], row["problem"]) == (False, "status 503")


def test_doctor(run: Run, server: OpenIDServer) -> None:
    done = run("doctor", "--json", **settings(server))
    [row] = [it for it in json.loads(done.stdout) if it["check"] == "providers"]
    assert row["verdict"] == "ok"
    assert URI in row["message"]
    assert CLIENT_SECRET not in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *(("config",), ("config", "--json"), ("doctor",)),
        *(("providers", "check"), ("providers", "list", "--plain")),
    ],
    ids=" ".join,
)
def test_no_command_shows_a_secret(
    run: Run, server: OpenIDServer, command: tuple[str, ...]
) -> None:
    variables = {"provider_staff_issuer": server.url, "provider_staff_client_id": "the-staff-id"}
    given = settings(server) | variables | {"provider_staff_client_secret": "another-secret"}
    done = run(*command, **given)
    shown = done.stdout + done.stderr
    assert "staff" in shown
    assert CLIENT_SECRET not in shown
    assert "another-secret" not in shown
    assert "Traceback" not in shown


def test_no_providers(run: Run) -> None:
    for command in ("list", "check"):
        done = run("providers", command)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == "No providers.\n"


def test_a_provider_that_is_not_complete(run: Run) -> None:
    given = {"public_url": "https://auth.example", "provider_google_client_secret": "x"}
    error = "authapi: the provider google needs the option client_id"
    assert failed_with_one_line(run("providers", "list", **given)) == error
    assert failed_with_one_line(run("serve", "--port", "0", **given)) == error
