"""Detached signatures, tested with GitHub's keys and signatures."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from authapi.crypto.signatures.detached import load_p256_public_key
from authapi.errors import SignatureMismatch, UnsupportedKey
from tests.web.scanners import Scanner

# Public keys of api.github.com/meta/public_keys/secret_scanning and of the documentation of the
# partner programme, with messages and signatures of that documentation.
SAMPLE = (
    '[{"source":"commit","token":"some_token","type":"some_type",'
    '"url":"https://example.com/base-repo-url/"}]'
)
PUBLISHED = {
    "api": (
        "YAGMWO8XgCamYKMJS6jc/qgvSlAdAjPuDPRcXU22YxgBrz+zoN19MzuRyW87qEt9/AmtoNP5GrobzUvQSyJFVw==",
        SAMPLE,
        (
            "MEQCIQDaMKqrGnE27S0kgMrEK0eYBmyG0LeZismAEz/BgZyt"
            "7AIfXt9fErtRS4XaeSt/AO1RtBY66YcAdjxji410VQV4xg=="
        ),
    ),
    "documentation": (
        "sz9ugWDj5jK5ELBK42ynytbo38gPHzZFI03Exwz8Lh/tCfL3YxwMdLjB+bMznsanlhK0RwcGP3IDb34kQDIo3Q==",
        '[{"token":"some_token","type":"some_type","url":"some_url","source":"some_source"}]',
        (
            "MEUCIFLZzeK++IhS+y276SRk2Pe5LfDrfvTXu6iwKKcFGCrv"
            "AiEAhHN2kDOhy2I6eGkOFmxNkOJ+L2y8oQ9A2T9GGJo6WJY="
        ),
    ),
}
GOOD = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE" + PUBLISHED["api"][0]


def pem(key: str) -> str:
    return f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("name", PUBLISHED)
def test_signatures_of_github_are_valid(name: str) -> None:
    point, text, signature = PUBLISHED[name]
    message, verifier = text.encode(), load_p256_public_key(pem(GOOD[:36] + point))
    verifier.verify(message, signature)
    for other in (message + b"\n", message.replace(b'","', b'", "'), b"", message[:-1]):
        with pytest.raises(SignatureMismatch):
            verifier.verify(other, signature)


def test_invalid_signatures_are_rejected() -> None:
    scanner, message = Scanner(), b"[]"
    key = load_p256_public_key(str(scanner.published["key"]))
    good = scanner.sign(message)
    key.verify(message, good)
    der = base64.b64decode(good)
    flipped = (bytes([*der[:n], der[n] ^ 1, *der[n + 1 :]]) for n in range(len(der)))
    texts = [base64.b64encode(item).decode() for item in flipped]
    texts += ["", "=", "%", "é", "AAAA", "MAYCAQACAQA=", "A" * 10**6, good * 2]
    texts += [good[:-4], good + "AAAA", f" {good}", f"{good}\n"]
    for text in texts:
        with pytest.raises(SignatureMismatch):
            key.verify(message, text)


PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def spelled(key: PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_only_p256_keys_are_loaded() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    load_p256_public_key(spelled(private))
    for text in (
        "",
        "a key",
        GOOD,
        pem(GOOD[:-8]),
        pem(GOOD[:-4] + "AA=="),
        spelled(ec.generate_private_key(ec.SECP384R1())),
        spelled(ec.generate_private_key(ec.SECP256K1())),
        spelled(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        spelled(ed25519.Ed25519PrivateKey.generate()),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    ):
        with pytest.raises(UnsupportedKey):
            load_p256_public_key(text)
