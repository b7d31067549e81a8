"""The public keys of secret scanners, in a file that the operator maintains.

The file has the format in which GitHub publishes its keys: `{"public_keys": [{"key_identifier":
..., "key": "-----BEGIN PUBLIC KEY-----...", "is_current": true}]}`. `is_current` is ignored: a key
is trusted while the file holds it.
"""

from collections.abc import Mapping
from pathlib import Path

from authapi.crypto import strict_json
from authapi.crypto.signatures.detached import P256PublicKey, load_p256_public_key
from authapi.errors import ConfigurationError, UnsupportedKey

_SETTING = "AUTHAPI_LEAK_REPORT_KEYS"


def read_scanner_keys(path: Path) -> Mapping[str, P256PublicKey]:
    """Reads the keys in the file at `path`, by `key_identifier`.

    Raises ConfigurationError if the file cannot be read, has another format, holds no key or two
    of one identifier, or holds a key that is not on P-256.
    """
    try:
        document = strict_json.loads(path.read_bytes())
    except OSError:
        raise ConfigurationError(f"{_SETTING} names a file that cannot be read") from None
    except ValueError:
        raise ConfigurationError(f"{_SETTING} names a file that is not JSON") from None
    entries = document.get("public_keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{_SETTING} names a file without a list of `public_keys`")
    keys = dict(_read_entry(entry) for entry in entries)
    if len(keys) != len(entries):
        raise ConfigurationError(f"{_SETTING} names a file with two keys of one `key_identifier`")
    return keys


def _read_entry(entry: object) -> tuple[str, P256PublicKey]:
    identifier, pem = (
        (entry.get("key_identifier"), entry.get("key")) if isinstance(entry, dict) else (None, None)
    )
    if not isinstance(identifier, str) or not identifier or not isinstance(pem, str):
        raise ConfigurationError(
            f"{_SETTING} names a file in which a key lacks its `key_identifier` or `key`"
        )
    try:
        return identifier, load_p256_public_key(pem)
    except UnsupportedKey as error:
        raise ConfigurationError(
            f"{_SETTING} names a file with a key that cannot be used: {error}"
        ) from None
