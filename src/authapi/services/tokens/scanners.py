"""The secret scanners whose word we take: their public keys, in a file that the operator keeps.

The file has the form in which GitHub publishes its own: `{"public_keys": [{"key_identifier": ...,
"key": "-----BEGIN PUBLIC KEY-----...", "is_current": true}]}`. Whoever is in it is believed,
current or not: to trust a key no more, take it out.
"""

from collections.abc import Mapping
from pathlib import Path

from authapi.crypto import strict_json
from authapi.crypto.detached import DetachedKey, read_detached_key
from authapi.errors import ConfigurationError, KeyRefused

_SETTING = "AUTHAPI_LEAK_REPORT_KEYS"


def read_scanners(path: Path) -> Mapping[str, DetachedKey]:
    """The keys in the file at `path`, by their identifiers.

    Raises ConfigurationError if it cannot be read, has another form, names a key twice or none at
    all, or holds one that is not on P-256.
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
    keys = dict(_read(entry) for entry in entries)
    if len(keys) != len(entries):
        raise ConfigurationError(f"{_SETTING} names a file with two keys of one `key_identifier`")
    return keys


def _read(entry: object) -> tuple[str, DetachedKey]:
    identifier, pem = (
        (entry.get("key_identifier"), entry.get("key")) if isinstance(entry, dict) else (None, None)
    )
    if not isinstance(identifier, str) or not identifier or not isinstance(pem, str):
        raise ConfigurationError(
            f"{_SETTING} names a file in which a key lacks its `key_identifier` or `key`"
        )
    try:
        return identifier, read_detached_key(pem)
    except KeyRefused as refusal:
        raise ConfigurationError(
            f"{_SETTING} names a file with a key that cannot be used: {refusal}"
        ) from None
