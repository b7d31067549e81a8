"""mypy and pyright infer exact types (`User`, `User | None`, not Any), and accept the examples."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a type checker reads all packages that authapi imports

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

CONTRACT = """\
from typing import Annotated
from fastapi import Depends, FastAPI
from authapi import AuthAPI, Identity, User, current_identity, current_user

auth = AuthAPI()                                  # settings from the environment
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)                                 # routes, error handlers, OpenAPI security


@app.get("/reports")
async def reports(
    user: Annotated[User, Depends(current_user("jwt", "token", scopes={"reports:read"}))],
    identity: Annotated[Identity, Depends(current_identity())],
) -> str:
    return f"{user.email} by {identity.strategy}"
"""

REVEALED = """\
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, WebSocket
from starlette.requests import HTTPConnection
from typing_extensions import reveal_type

from authapi import Identity, Settings, User, current_identity, current_user


async def in_async(
    user: Annotated[User, Depends(current_user("jwt"))],
    maybe: Annotated[User | None, Depends(current_user(optional=True))],
    identity: Annotated[Identity, Depends(current_identity())],
) -> None:
    reveal_type(user)  # User
    reveal_type(maybe)  # User | None
    reveal_type(identity)  # Identity
    reveal_type(user.email)  # str
    reveal_type(user.name)  # str | None
    reveal_type(identity.user)  # User
    reveal_type(identity.scopes)  # frozenset[str]


def in_def(user: Annotated[User, Depends(current_user("jwt", "token"))]) -> None:
    reveal_type(user)  # User


async def live(
    websocket: WebSocket, user: Annotated[User, Depends(current_user("session"))]
) -> None:
    reveal_type(await current_user()(websocket))  # User
    reveal_type(user)  # User


async def called(connection: HTTPConnection, flag: bool) -> None:
    reveal_type(await current_user()(connection))  # User
    reveal_type(await current_user("jwt", "token", scopes={"a"})(connection))  # User
    reveal_type(await current_user(scopes=["a"], verified=True, superuser=True)(connection))  # User
    reveal_type(await current_user(fresh=True)(connection))  # User
    reveal_type(await current_user(fresh=timedelta(minutes=5))(connection))  # User
    reveal_type(await current_user(optional=False)(connection))  # User
    reveal_type(await current_user(optional=True)(connection))  # User | None
    reveal_type(await current_user("jwt", optional=True)(connection))  # User | None
    reveal_type(await current_user(optional=flag)(connection))  # User | None
    reveal_type(await current_identity()(connection))  # Identity
    reveal_type(await current_identity("jwt", scopes={"a"}, fresh=True)(connection))  # Identity
    reveal_type(await current_identity(optional=False)(connection))  # Identity
    reveal_type(await current_identity(optional=True)(connection))  # Identity | None
    reveal_type(await current_identity(optional=flag)(connection))  # Identity | None


settings = Settings(strategies=("jwt",))
reveal_type(settings.strategies)  # tuple[str, ...]
"""

WRONG = """\
from starlette.requests import HTTPConnection

from authapi import User, current_identity, current_user


async def wrong(connection: HTTPConnection, user: User) -> None:
    _a: User = await current_user(optional=True)(connection)  # error
    _b: User = await current_identity()(connection)  # error
    _c = current_user(1)  # error
    _d = current_user(scope={"a"})  # error
    _e = current_user(fresh=300)  # error
    _f = current_user(fresh=False)  # error
    user.email = "x"  # error
    _g: str = user.emial  # error
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with programs that use the installed authapi."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    texts = {"revealed.py": REVEALED, "wrong.py": WRONG, "contract.py": CONTRACT}
    # The other blocks of the README import the first.
    texts |= dict(
        zip(("yourmodule.py", "second.py", "third.py", "fourth.py"), blocks, strict=False)
    )
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def expected(text: str) -> dict[int, str]:
    """Maps line numbers to the expected types or errors in the comments of a program."""
    return {
        number: line.rpartition("  # ")[2]
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"\)  # |  # error$", line)
    }


def run(command: list[str], folder: Path) -> list[str]:
    """Run a type checker on the programs in `folder`, and return its output lines."""
    files = sorted(path.name for path in folder.glob("*.py"))
    result = subprocess.run(
        [*command, *files], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    return result.stdout.splitlines()


def check(lines: list[str], pattern: str, notes: str) -> None:
    """Compare the output of a type checker with the comments of the programs."""
    errors: dict[str, dict[int, str]] = {}
    revealed: dict[int, str] = {}
    for line in lines:
        match = re.match(pattern, line)
        if match is None:
            continue
        name, number, level, message = match.groups()
        if level == "error":
            errors.setdefault(name, {})[int(number)] = message
        elif name == "revealed.py" and (note := re.search(notes, message)):
            revealed[int(number)] = _short(note[1])
    assert revealed == expected(REVEALED)
    assert errors.pop("wrong.py", {}).keys() == expected(WRONG).keys()
    assert errors == {}, "the other programs have no errors"


def test_mypy_infers_exact_types(programs: Path, pytestconfig: pytest.Config) -> None:
    cache = pytestconfig.cache
    assert cache is not None
    lines = run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            f"--cache-dir={cache.mkdir('authapi-mypy')}",  # kept, so that the next run is fast
            "--hide-error-context",
            "--no-error-summary",
        ],
        programs,
    )
    check(lines, r"(\w+\.py):(\d+): (error|note): (.*)$", r'Revealed type is "(.*)"$')


def test_pyright_infers_exact_types(programs: Path) -> None:
    found = shutil.which("basedpyright", path=str(BIN))
    assert found is not None
    (programs / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    lines = run([found, f"--pythonpath={sys.executable}"], programs)
    check(
        lines,
        r"\s*\S*?(\w+\.py):(\d+):\d+ - (error|information|warning): (.*)$",
        r'Type of ".*" is "(.*)"$',
    )


def _short(name: str) -> str:
    name = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", name)
    return name.replace("Union[User, None]", "User | None")
