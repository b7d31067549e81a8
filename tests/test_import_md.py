"""docs/import.md: its commands print the documented output, and its tables match the code."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from authapi.crypto import imported_hashes, passwords
from authapi.errors import InvalidImportLine
from authapi.services.accounts.importing import importer
from authapi.services.accounts.importing import lines as import_lines
from tests.console import run_page
from tests.crypto.imported_hash_vectors import CHEAP, DEFAULT
from tests.environments import create_environment, install
from tests.test_readme import ROOT, blocks, service

__all__ = ["service"]

PAGE = (ROOT / "docs" / "import.md").read_text("utf-8")
PEERS = (
    *("django==5.2.19", "flask-sqlalchemy==3.1.1", "werkzeug==3.1.9", "argon2-cffi==25.1.0"),
    *("flask-security[common,fsqla]==5.9.2",),
)


def rows(heading: str) -> list[list[str]]:
    """Returns the rows of the table below a heading, without the table head."""
    text = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.slow
def test_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    ran = run_page(PAGE, service, tmp_path, may_fail=True)
    for command, expected, output in ran:
        assert output.strip() == expected.strip(), command
    assert len(ran) == 11


def test_documented_fields_match_the_code() -> None:
    fields = [row[0].strip("`") for row in rows("Format of a line")]
    assert fields == list(import_lines.Line.model_fields)


def test_documented_bounds_match_the_code() -> None:
    bounds = " ".join(row[2] for row in rows("Hashes"))
    assert f"{imported_hashes._MAX_ARGON2_MEMORY >> 10} MiB, 1 GiB times passes" in bounds
    assert imported_hashes._MAX_ARGON2_WORK == imported_hashes._MAX_SCRYPT_WORK >> 10 == 1 << 20
    assert f"{imported_hashes._MAX_ARGON2_LANES} lanes" in bounds
    assert f"cost {imported_hashes._MAX_BCRYPT_COST}" in bounds
    assert f"{imported_hashes._MAX_ITERATIONS:,} iterations" in bounds
    assert f"{imported_hashes._MAX_SCRYPT_MEMORY >> 20} MiB, 1 GiB times p" in bounds
    assert f"{import_lines.MAX_LINE:,} bytes" in PAGE
    assert f"batches of\n  {importer._BATCH}," in PAGE


def test_documented_hash_formats_are_accepted() -> None:
    forms = [
        form for row in rows("Hashes") for form in re.findall(r"`([^`']+?)(?:\.\.\.)?`", row[1])
    ]
    known = [*CHEAP.values(), *DEFAULT.values()]
    known += [imported_hashes.to_passlib_format(text) for text in known]
    for form in forms:
        assert form == "sha1" or form == "sha512" or any(text.startswith(form) for text in known), (
            form
        )
    assert len(forms) == 16


def read_all(lines: str) -> list[dict[str, object]]:
    """Parses each line as an import does."""
    parser = import_lines.LineParser({}, allow_superusers=True)
    for line in lines.splitlines():
        try:
            parser.parse(line.encode())
        except InvalidImportLine as refusal:
            pytest.fail(f"{line}: {refusal}")
    return [json.loads(line) for line in lines.splitlines()]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with Django and Flask."""
    python = create_environment(tmp_path_factory.mktemp("peers"))
    install(python, *PEERS)
    return python


@pytest.fixture
def run(peer: Path, tmp_path: Path) -> Callable[..., str]:
    def run_there(*arguments: str, text: str = "") -> str:
        done = subprocess.run(
            [peer, *arguments],
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_there


USERS = """
from django.contrib.auth.models import User
User.objects.create_user("alice", "alice@example.com", "old password", first_name="Alice")
User.objects.create_superuser("root", "root@example.com", "old password")
User.objects.create_user("bob", "bob@example.com").set_unusable_password()
carol = User.objects.create_user("carol", "carol@example.com", "old password", is_active=False)
"""


@pytest.mark.slow
def test_django_export_can_be_imported(run: Callable[..., str]) -> None:
    [program] = [text for text in blocks("python", PAGE) if "django" in text]
    run("-m", "django", "startproject", "site_of_theirs", ".")
    run("manage.py", "migrate")
    run("manage.py", "shell", "-v", "0", text=USERS)
    lines = read_all(run("manage.py", "shell", "-v", "0", text=program))
    assert [line["email"] for line in lines] == [
        f"{name}@example.com" for name in ("alice", "root", "bob", "carol")
    ]
    assert [line["name"] for line in lines] == ["Alice", None, None, None]
    assert [line["is_superuser"] for line in lines] == [False, True, False, False]
    assert [line["is_active"] for line in lines] == [True, True, True, False]
    hashes = [str(line["password_hash"]).split("$")[0] for line in lines]
    assert hashes == ["pbkdf2_sha256", "pbkdf2_sha256", "None", "pbkdf2_sha256"]


YOUR_APP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from werkzeug.security import generate_password_hash
app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
db = SQLAlchemy(app)
class User(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    email = db.Column(db.String(254))
    password_hash = db.Column(db.String(255))
with app.app_context():
    db.create_all()
    for method in ("scrypt", "pbkdf2"):
        hashed = generate_password_hash("old password", method)
        db.session.add(User(email=method + "@example.com", password_hash=hashed))
    db.session.commit()
"""


@pytest.mark.slow
def test_flask_export_can_be_imported(run: Callable[..., str], tmp_path: Path) -> None:
    programs = [text for text in blocks("python", PAGE) if "yourapp" in text]
    [program] = [text for text in programs if "flask_security" not in text]
    (tmp_path / "yourapp.py").write_text(YOUR_APP)
    (tmp_path / "export.py").write_text(program)
    lines = read_all(run("export.py"))
    assert [line["email"] for line in lines] == ["scrypt@example.com", "pbkdf2@example.com"]


FLASK_SECURITY = """
from flask import Flask
from flask_security import Security, SQLAlchemyUserDatastore, hash_password
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy
app = Flask(__name__)
app.config.update(SECRET_KEY="a secret key", SECURITY_PASSWORD_SALT="1234567890")
app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SECURITY_PASSWORD_HASH="argon2")
app.config["SECURITY_PASSWORD_SINGLE_HASH"] = {single}
db = SQLAlchemy(app)
fsqla.FsModels.set_db_info(db)
class Role(db.Model, fsqla.FsRoleMixin):
    pass
class User(db.Model, fsqla.FsUserMixin):
    pass
users = SQLAlchemyUserDatastore(db, User, Role)
app.security = Security(app, users)
context = app.app_context()
context.push()
db.create_all()
users.create_user(email="alice@example.com", password=hash_password("old password"))
db.session.commit()
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_single", [True, False])
def test_flask_security_export_has_plain_hashes_only(
    run: Callable[..., str], tmp_path: Path, is_single: bool
) -> None:
    [program] = [text for text in blocks("python", PAGE) if "flask_security" in text]
    (tmp_path / "yourapp.py").write_text(FLASK_SECURITY.replace("{single}", str(is_single)))
    # Its database is in memory, and belongs to the context of the module.
    (tmp_path / "export.py").write_text(program.replace("with app.app_context():", "if app:"))
    [line] = read_all(run("export.py"))
    assert (line["email"], line["is_active"]) == ("alice@example.com", True)
    hashed = line["password_hash"]
    assert hashed is None if not is_single else str(hashed).startswith("$argon2id$")
    if is_single:
        stored = passwords.imported_hash(str(hashed))
        passwords.PasswordHasher(passwords.Cost(64, 1, 1)).verify("old password", stored)
