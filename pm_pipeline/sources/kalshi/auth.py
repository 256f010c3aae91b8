"""Signing requests to Kalshi. Market data over REST needs no key; the WebSocket does."""

import base64
import os
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Final, Self

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pm_pipeline.errors import UsageError

KEY_ID: Final = "KALSHI_API_KEY_ID"
KEY_FILE: Final = "KALSHI_PRIVATE_KEY"


class KalshiAuth(httpx.Auth):
    """Signs ``timestamp + METHOD + path`` (no query) with RSA-PSS or Ed25519, as the key is.

    The key stays in this object: it is never logged, printed, archived or part of an error.
    """

    def __init__(
        self, key_id: str, key: RSAPrivateKey | Ed25519PrivateKey, clock: Callable[[], float] = time.time
    ) -> None:
        self._key_id = key_id
        self._key = key
        self._clock = clock

    def __repr__(self) -> str:
        return f"KalshiAuth({type(self._key).__name__})"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """The key of this installation, or ``None`` where neither variable is set.

        ``KALSHI_API_KEY_ID`` holds the id, ``KALSHI_PRIVATE_KEY`` the path of the PEM file.

        Raises
        ------
        UsageError
            when only one is set, or the file is not a private key of either kind.
        """
        key_id, path = environ.get(KEY_ID), environ.get(KEY_FILE)
        if not key_id and not path:
            return None
        if not key_id or not path:
            raise UsageError(f"set both {KEY_ID} (the id) and {KEY_FILE} (path of the PEM file), or neither")
        try:
            key = load_pem_private_key(Path(path).read_bytes(), password=None)
        except OSError as error:
            raise UsageError(f"{KEY_FILE}: the file cannot be read: {error.strerror}") from None
        except (ValueError, TypeError):
            raise UsageError(f"{KEY_FILE}: the file is not an unencrypted private key in PEM form") from None
        if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
            raise UsageError(f"{KEY_FILE}: Kalshi takes RSA and Ed25519 keys")
        return cls(key_id, key)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the three headers; each attempt is signed anew."""
        stamp = str(int(self._clock() * 1000))
        text = f"{stamp}{request.method}{request.url.path}".encode()
        request.headers["KALSHI-ACCESS-KEY"] = self._key_id
        request.headers["KALSHI-ACCESS-TIMESTAMP"] = stamp
        request.headers["KALSHI-ACCESS-SIGNATURE"] = base64.b64encode(self._sign(text)).decode()
        yield request

    def _sign(self, text: bytes) -> bytes:
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(text)
        return self._key.sign(text, PSS(mgf=MGF1(SHA256()), salt_length=PSS.DIGEST_LENGTH), SHA256())
