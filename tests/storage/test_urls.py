"""Database URLs: the forms of libpq, SQLite paths, and errors in one line."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from authapi.errors import ConfigurationError
from authapi.settings import Settings, load_settings
from authapi.storage import Database, migrations
from authapi.storage.postgres.url_parameters import HINTS, libpq_parameters
from authapi.storage.urls import parse_url
from tests.servers.postgres import PostgresCluster


def connected_with(text: str) -> Mapping[str, object]:
    """Returns the arguments of the driver."""
    url = parse_url(text)
    arguments = sa.create_engine(url).dialect.create_connect_args(url)[1]
    return {name: value for name, value in arguments.items() if name != "context"}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("postgresql://u:p@h:5433/d", {"user": "u", "password": "p", "host": "h", "port": 5433}),
        ("PostgreSQL://u:p@h:5433/d", {"user": "u", "password": "p", "host": "h", "port": 5433}),
        ("postgres://h/d", {"host": "h"}),
        ("POSTGRES+asyncpg://h/d", {"host": "h"}),
        (" postgresql://h/d\r\n", {"host": "h"}),
        ("postgresql://u%40x:p%2F%3F%23w%3A@h/d", {"user": "u@x", "password": "p/?#w:"}),
        ("postgresql://u@%2Ftmp%2Fsock/d", {"user": "u", "host": "/tmp/sock"}),
        ("postgresql://%2Ftmp%2Fsock:5433/d", {"host": "/tmp/sock", "port": "5433"}),
        ("postgresql://%40abstract/d", {"host": "@abstract"}),
        ("postgresql:///d?host=/tmp/sock", {"host": "/tmp/sock"}),
        ("postgresql:///d?host=/tmp/sock&port=5433", {"host": "/tmp/sock", "port": "5433"}),
        ("postgresql://u@/d?host=%2Ftmp%2Fsock", {"user": "u", "host": "/tmp/sock"}),
        ("postgresql://h1:5432,h2:5433/d", {"host": "h1,h2", "port": "5432,5433"}),
        ("postgresql://h1,h2:5433/d", {"host": "h1,h2", "port": ",5433"}),
        ("postgresql://h1,h2/d", {"host": "h1,h2"}),
        ("postgresql://h1,h2/d?port=5433", {"host": "h1,h2", "port": "5433,5433"}),
        ("postgresql:///d?host=h1,h2&port=1,2", {"host": "h1,h2", "port": "1,2"}),
        ("postgresql:///d?host=h1:1&host=h2:2", {"host": "h1,h2", "port": "1,2"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": 5433}),
        ("postgresql://[::1]:1,[::2]:2/d", {"host": "::1,::2", "port": "1,2"}),
        ("postgresql://h/d?service=s&passfile=/f", {"service": "s", "passfile": "/f"}),
        ("postgresql://h/d?sslmode=require&connect_timeout=3", {"sslmode": "require"}),
        ("postgresql:///d?user=u&password=p%26w", {"user": "u", "password": "p&w"}),
    ],
)
def test_libpq_url_forms_are_accepted(text: str, arguments: Mapping[str, object]) -> None:
    assert connected_with(text).items() >= {**arguments, "dbname": "d"}.items()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postgresql://u:canary%00w@h/d", "contains a NUL (%00) in its password"),
        ("postgresql://canary%00@h/d", "contains a NUL (%00) in its user"),
        ("postgresql://canary%00/d", "contains a NUL (%00) in its host"),
        ("postgresql://h/canary%00", "contains a NUL (%00) in its database"),
        ("postgresql://h/d?password=canary%00", "contains a NUL (%00) in the parameter password"),
        ("sqlite:///canary%00", "contains a NUL (%00) in its path"),
        (
            "postgresql://u:canary\nw@h/d",
            "must not contain line breaks or other control characters",
        ),
        ("postgresql://u:canary%ff@h/d", "has a password that is not UTF-8"),
        ("postgresql://u:canary/w@h/d", "in a password, @ : / ? # are written %40"),
        ("postgresql://u:canary@w@h/d", "in a password, @ : / ? # are written %40"),
        ("postgresql://h:0/d", "cannot be read"),
        ("postgresql://h:99999/d", "cannot be read"),
        ("postgresql://h:٥/d", "cannot be read"),
        ("postgresql://h/d?port=canary", "must name a port as a number from 1 to 65535"),
        ("postgresql://h1,h2,h3/d?port=1,2", "names 2 ports for 3 hosts"),
        ("postgresql://h/d?sslmode=canary&sslmode=b", "has the parameter sslmode several times"),
        ("postgresql://h/d?schema=canary", "write ?options=-csearch_path%3Dname"),
        ("postgresql://h/d?currentSchema=canary", "write ?options=-csearch_path%3Dname"),
        ("postgresql://h/d?pgbouncer=true", "leave it out"),
        ("postgresql://h/d?ssl=canary", "write ?sslmode=require, or verify-full"),
        ("postgresql://h/d?connection_limit=5", "AUTHAPI_DATABASE_POOL_SIZE"),
        ("postgresql://h/d?prepare_threshold=0", "leave it out"),
        ("postgresql://h/d?x%0Ay=canary", "the parameter x?y, which PostgreSQL's libpq does not"),
        ("sqlite:////d/a?canary", "write ? in a path as %3F"),
        ("sqlite:///a?mode=ro", "write ? in a path as %3F"),
        ("sqlite://canary/a", "must name a file: sqlite:///path"),
        ("sqlite:///%3Amemory%3A", "must name a file: sqlite:///path"),
        (
            "host=h password=canary",
            "cannot be read: it must begin with postgresql:// or sqlite:///",
        ),
        ("file:./canary.db", "must begin with postgresql:// or sqlite:///"),
        ("jdbc:postgresql://canary/d", "must begin with postgresql:// or sqlite:///"),
    ],
)
def test_invalid_url_is_rejected_in_one_line_without_its_values(text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_url(text)
    message = str(refused.value)
    assert message.startswith("the database URL ")
    assert reason in message
    assert "\n" not in message
    assert "canary" not in message
    assert refused.value.__cause__ is None


def test_hints_do_not_hide_libpq_parameters() -> None:
    known = libpq_parameters()
    assert known is not None
    assert not known & HINTS.keys()
    assert all(name == name.lower() for name in HINTS)


FOLDERS = [
    "a?b",
    "a#b",
    "a%b",
    "a%3Fb",
    "a b",
    " a",
    "안녕",
    "a+b",
    "a&b=c",
    "file:x",
    "a\nb",
    "a'b",
]


@pytest.mark.parametrize("name", FOLDERS)
async def test_embedded_database_is_in_the_data_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAPI_DATA_DIR", str(tmp_path / name))
    await lies_in(tmp_path / name, load_settings(), tmp_path)


async def test_data_folder_with_non_utf8_name(tmp_path: Path) -> None:
    folder = tmp_path / "a\udcffb"
    await lies_in(folder, Settings(data_dir=folder), tmp_path)


@pytest.mark.parametrize("written", ["here/data", "./here/data", "~/here/data"])
async def test_relative_and_home_folders(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AUTHAPI_DATA_DIR", written)
    await lies_in(tmp_path / "here" / "data", load_settings(), tmp_path)


async def lies_in(folder: Path, settings: Settings, above: Path) -> None:
    folder.mkdir(parents=True)  # noqa: ASYNC240  # nothing else runs
    migrations.upgrade(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    async with database.read() as store:
        assert await store.users.find_by_email("alice@example.com") is None
    await database.close()
    files = {path for path in above.rglob("*") if path.is_file()}  # noqa: ASYNC240
    assert {path.parent for path in files} == {folder}
    assert folder / "authapi.db" in files


@pytest.mark.parametrize("name", FOLDERS)
def test_explicit_url_names_its_file(name: str, tmp_path: Path) -> None:
    url = f"SQLite:///{tmp_path}/{quote(name, safe='')}.db"
    if "\n" in name:
        with pytest.raises(ValueError, match="database_url"):
            Settings(database_url=url.replace("%0A", "\n"))  # type: ignore[arg-type]
        return
    settings = Settings(database_url=url)  # type: ignore[arg-type]
    assert settings.is_embedded
    migrations.upgrade(settings.resolved_database_url)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == [f"{name}.db"]


@pytest.fixture(scope="module")
def sockets() -> Iterator[tuple[PostgresCluster, Path]]:
    # Not below tmp_path: a socket path has at most 107 bytes, and the server runs as another
    # user's.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        with PostgresCluster({"unix_socket_directories": name}) as cluster:
            yield cluster, folder


def test_real_server_by_socket_hosts_and_service(
    sockets: tuple[PostgresCluster, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, folder = sockets
    port, password = cluster.port, cluster.password
    login = f"postgres:{password}"
    services, passwords = folder / "services", folder / "passwords"
    services.write_text(f"[ours]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname=postgres\n")
    passwords.write_text(f"*:*:*:postgres:{password}\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for url in (
        f"postgresql://{login}@{quote(str(folder), safe='')}:{port}/postgres",
        f"postgresql://{login}@/postgres?host={folder}&port={port}",
        f"PostgreSQL://{login}@127.0.0.1:1,127.0.0.1:{port}/postgres",
        f"postgresql://{login}@{quote(str(folder), safe='')}:1,localhost:{port}/postgres",
        f"postgresql:///?service=ours&passfile={passwords}",
        f"postgresql://postgres@127.0.0.1:{port}/postgres?passfile={passwords}",
    ):
        assert migrations.current(url) is None, url


async def test_pool_accepts_the_same_url_forms(sockets: tuple[PostgresCluster, Path]) -> None:
    cluster, folder = sockets
    login = f"postgres:{cluster.password}"
    for url in (
        f"postgresql://{login}@{quote(str(folder), safe='')}:{cluster.port}/postgres",
        f"postgresql://{login}@127.0.0.1:1,127.0.0.1:{cluster.port}/postgres",
    ):
        database = Database(url)
        await database.ping()
        assert cluster.password not in database.description
        await database.close()
