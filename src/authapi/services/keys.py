"""The key that signs our JWTs, and what others need to verify them.

It is derived from one configured secret, so that every process and host with the same secret has
the same key and none has to be handed around.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from authapi.crypto import jws, secrets
from authapi.errors import ConfigurationError
from authapi.identity import Session, User
from authapi.settings import MIN_SECRET_LENGTH, Settings


class Keys:
    """Signs and verifies access tokens (RFC 9068)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signing: jws.SigningKey | None = None
        self._ring: Mapping[str, jws.VerifyingKey] = {}

    def start(self) -> None:
        """Derive the key; without a configured secret, from one kept in the data folder.

        Raises ConfigurationError if the folder or the file cannot be used.
        """
        secret = self._settings.secret
        text = secret.get_secret_value() if secret else _own_secret(self._settings.data_dir)
        self._signing = jws.derive_signing_key(text.encode())
        self._ring = jws.key_ring([self._signing.verifying])

    def sign_access_token(
        self, user: User, session: Session, *, issued: datetime, expires: datetime
    ) -> str:
        """A JWT for `session`, whose `sid` makes a logout real."""
        claims: dict[str, object] = {
            "iss": self._settings.issuer,
            "sub": str(user.id),
            "aud": self._settings.jwt_audience,
            "exp": int(expires.timestamp()),
            "iat": int(issued.timestamp()),
            "jti": secrets.new_secret(),
            "sid": str(session.id),
            "auth_time": int(session.auth_time.timestamp()),
            "amr": list(session.amr),
        }
        if session.scopes:
            claims["scope"] = " ".join(sorted(session.scopes))
        return jws.sign(claims, self._require())

    def verify_access_token(self, token: str, *, now: datetime) -> Mapping[str, object]:
        """The claims of one of our own access tokens. Raises TokenError for every refusal."""
        return jws.verify(
            token,
            keys=self._ring,
            issuer=self._settings.issuer,
            audience=self._settings.jwt_audience,
            now=now.timestamp(),
        )

    def jwk_set(self) -> dict[str, list[dict[str, str]]]:
        """The public keys, as a JWK set (RFC 7517, section 5)."""
        return {"keys": [dict(key.jwk) for key in self._ring.values()]}

    def _require(self) -> jws.SigningKey:
        if self._signing is None:
            raise RuntimeError("authapi is not started: run the application's lifespan")
        return self._signing


def prepare_data_dir(path: Path) -> None:
    """Make the data folder, readable by its owner only. Raises ConfigurationError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the data folder {path}: {error.strerror}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the data folder {path} is not writable")


def _own_secret(data_dir: Path) -> str:
    prepare_data_dir(data_dir)
    path = data_dir / "secret"
    try:
        # Several processes may start at once: one makes the file under a name of its own and links
        # it into place whole, the others read it.
        if not path.exists():
            _create(path, secrets.new_secret())
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read or make the secret file {path}: {error}") from None
    if len(text) < MIN_SECRET_LENGTH:
        raise ConfigurationError(f"the secret file {path} is damaged: it is too short")
    return text


def _create(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
