"""Secrets in files: reads them, and checks which other users can read the files."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic.fields import FieldInfo
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from authapi.errors import ConfigurationError
from authapi.settings.http import DOTENV, EdgeSettings
from authapi.settings.values.normalization import expand_home

Readers = Literal["all users", "its group"]
CHMOD_FIX = {"all users": "chmod o-r", "its group": "chmod g-r"}
_SECRETS = (
    "AUTHAPI_SECRET",
    "AUTHAPI_SECRET_PREVIOUS",
    "AUTHAPI_DATABASE_URL",
    "AUTHAPI_DATABASE_DIRECT_URL",
    "AUTHAPI_REDIS_URL",
    "AUTHAPI_MAIL_URL",
    "AUTHAPI_WEBHOOK_SECRET",
)
"""Variables whose values are secrets, or URLs that may contain a password."""
SECRET_FILE = re.compile(r"authapi_\w+_file")
"""The variables that name files, as `SecretFilesSource` reads them: in lower case."""
_MAX_SECRET_FILE = 64 * 1024
"""Bytes. A limit, because a path may name a device without an end."""


def other_readers(path: Path) -> Readers | None:
    """Returns which other users can read this file, None if only the service can.

    Group access is accepted if the service needs it: it is a member of the group, and another user
    owns the file. Kubernetes (fsGroup) and Docker (`gid`) mount secrets like this, with mode 0440.
    A file that the service owns needs no group access. Raises OSError if the file does not exist.
    """
    status = path.stat()
    if status.st_mode & stat.S_IROTH:
        return "all users"
    if not status.st_mode & stat.S_IRGRP:
        return None
    is_member = status.st_gid in {os.getegid(), *os.getgroups()}
    is_foreign = status.st_uid == 0 or status.st_uid != os.geteuid()
    return None if is_member and is_foreign else "its group"


def secret_files() -> Mapping[str, Path]:
    """Returns the files from which secrets are read, by the variables that name them."""
    return {
        f"{variable}_FILE": _secret_path(os.environ[f"{variable}_FILE"])
        for variable in _SECRETS
        if os.environ.get(f"{variable}_FILE") and not os.environ.get(variable)
    }


def secrets_in_dotenv() -> Mapping[Path, tuple[str, ...]]:
    """Returns the `.env` file with the variables of the secrets in it; empty if there are none.

    Includes secrets that the environment overrides, because other users may read those too.
    """
    values = DotEnvSettingsSource(EdgeSettings).env_vars
    names = tuple(name for name in _SECRETS if values.get(name.lower()))
    return {Path(DOTENV): names} if names else {}


class SecretFilesSource(EnvSettingsSource):
    """Reads a secret setting X from the file that `AUTHAPI_X_FILE` names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Returns the content of the file of a setting, as `EnvSettingsSource` does a value.

        Raises ConfigurationError if the file cannot be read or is larger than 64 KiB.
        """
        path = self.env_vars.get(f"authapi_{field_name}_file")
        if path is None or "SecretStr" not in str(field.annotation):
            return None, field_name, False
        try:
            with _secret_path(path).open("rb") as file:
                content = file.read(_MAX_SECRET_FILE + 1)
            # `utf-8-sig` removes the byte order mark that some editors write.
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError, ValueError):
            variable = f"AUTHAPI_{field_name.upper()}_FILE"
            raise ConfigurationError(f"{variable} names a file that cannot be read") from None
        if len(content) > _MAX_SECRET_FILE:
            variable = f"AUTHAPI_{field_name.upper()}_FILE"
            raise ConfigurationError(f"{variable} names a file of more than 64 KiB")
        return text, field_name, False


def _secret_path(text: str) -> Path:
    return expand_home(Path(text.strip("\r\n")))
