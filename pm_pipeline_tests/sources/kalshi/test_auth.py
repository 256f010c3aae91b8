import base64
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pm_pipeline.errors import UsageError
from pm_pipeline.sources.kalshi.auth import KalshiAuth

RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signed(auth: KalshiAuth) -> tuple[bytes, bytes, httpx.Headers]:
    request = httpx.Request("GET", "https://h.test/trade-api/v2/markets?limit=5")
    next(auth.auth_flow(request))
    headers = request.headers
    text = (headers["KALSHI-ACCESS-TIMESTAMP"] + "GET/trade-api/v2/markets").encode()
    return base64.b64decode(headers["KALSHI-ACCESS-SIGNATURE"]), text, headers


def test_an_rsa_key_signs_time_method_and_path_without_the_query() -> None:
    signature, text, headers = signed(KalshiAuth("id-1", RSA, clock=lambda: 1_700_000_000.5))
    pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
    RSA.public_key().verify(signature, text, pss, SHA256())
    assert headers["KALSHI-ACCESS-KEY"] == "id-1"
    assert headers["KALSHI-ACCESS-TIMESTAMP"] == "1700000000500"


def test_an_ed25519_key_signs_the_same_text() -> None:
    signature, text, _ = signed(KalshiAuth("id-1", ED))
    ED.public_key().verify(signature, text)


@pytest.mark.parametrize("key", [RSA, ED])
def test_the_key_comes_from_the_environment_and_is_never_shown(
    tmp_path: Path, key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key))
    auth = KalshiAuth.from_environment({"KALSHI_API_KEY_ID": "id-1", "KALSHI_PRIVATE_KEY": str(path)})
    assert auth is not None
    assert "id-1" not in repr(auth)


def test_without_keys_nothing_is_signed() -> None:
    assert KalshiAuth.from_environment({}) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (
            b"-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----\n",
            "not an unencrypted private key",
        ),
        (pem(ec.generate_private_key(ec.SECP256R1())), "takes RSA and Ed25519 keys"),
    ],
)
def test_a_bad_key_file_is_said_without_its_content(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        KalshiAuth.from_environment({"KALSHI_API_KEY_ID": "id-1", "KALSHI_PRIVATE_KEY": str(path)})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("name", ["KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY"])
def test_half_a_configuration_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="set both"):
        KalshiAuth.from_environment({name: "x"})
