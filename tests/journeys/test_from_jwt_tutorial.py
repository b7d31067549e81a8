"""Migration from the OAuth2 tutorial of FastAPI, as docs/from-jwt-tutorial.md describes it.

The users are in a table of SQLModel, with hashes that pwdlib and passlib made in an environment of
their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.environments import create_environment, install
from tests.servers.process import ServeProcess, free_port
from tests.test_readme import ROOT, blocks, steps

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "from-jwt-tutorial.md").read_text("utf-8")
NEEDS = ("sqlmodel==0.0.50", "pwdlib[argon2,bcrypt]==0.3.0", "passlib==1.7.4")
PASSWORD = "secret of the tutorial"
YOUR_APP = f"""
from sqlmodel import Field, Session, SQLModel, create_engine
from passlib.hash import pbkdf2_sha256
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher
class User(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    username: str = Field(unique=True)
    email: str
    full_name: str | None = None
    disabled: bool = False
    hashed_password: str
engine = create_engine("sqlite:///tutorial.db")
def fill():
    SQLModel.metadata.create_all(engine)
    password = {PASSWORD!r}
    hashes = [PasswordHash.recommended().hash(password), BcryptHasher().hash(password)]
    hashes.append(pbkdf2_sha256.hash(password))
    with Session(engine) as session:
        for name, hashed in zip(("johndoe", "alice", "bob"), hashes):
            email = name + "@example.com"
            user = User(username=name, email=email, hashed_password=hashed, disabled=name == "bob")
            session.add(user)
        session.commit()
"""


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with SQLModel and the libraries that the tutorial hashes with."""
    python = create_environment(tmp_path_factory.mktemp("tutorial"))
    install(python, *NEEDS)
    return python


def test_users_of_the_tutorial_log_in_to_the_moved_application(peer: Path, tmp_path: Path) -> None:
    moved, export = blocks("python", PAGE)
    (tmp_path / "yourapp.py").write_text(YOUR_APP)
    (tmp_path / "export.py").write_text(export)
    (tmp_path / "moved.py").write_text(moved)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
    }

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    run(peer, "-c", "import yourapp; yourapp.fill()")
    (tmp_path / "users.jsonl").write_text(run(peer, "export.py"))
    [(command, printed)] = [step for text in blocks("console", PAGE) for step in steps(text)]
    assert run(*command.split()).strip() == printed.strip()
    rows = (tmp_path / "map.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]
    new_ids = [row.split(",")[1] for row in rows]

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "moved:app"]
    with (
        ServeProcess([*serve, "--port", str(port)], environment, tmp_path) as server,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        server.wait_ready(f"{url}/health/ready", timeout=60)
        for name, new_id in zip(("johndoe", "alice"), new_ids, strict=False):
            form = {"grant_type": "password", "username": f"{name}@example.com"}
            assert http.post("/token", data={**form, "password": "x"}).status_code == 400
            answer = http.post("/token", data={**form, "password": PASSWORD})
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            items = http.get("/users/me/items/", headers=headers)
            assert items.json() == [{"item_id": "Foo", "owner": f"{name}@example.com"}]
            assert http.get("/me", headers=headers).json()["id"] == new_id
        body = {"email": "bob@example.com", "password": PASSWORD}
        assert http.post("/login", json=body).status_code == 401
        assert http.get("/users/me/items/").status_code == 401
