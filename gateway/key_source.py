"""Where the identity provider's keys come from: two addresses, within bounds, in a thread that may wait.

source = KeySource(settings)
source.fetch()      # {"key-1": {"kty": "EC", …}, …}, those that can be used
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import jwt
import requests

from vaultkit.errors import ResponseTooLarge, VaultError
from vaultkit.transport.connection import ConnectionSettings, HttpSettings
from vaultkit.transport.session import TRIED_ONCE, new_session

from .settings import IdentitySettings, is_trusted

TIMEOUT_SECONDS = 5.0
MOST_BYTES = 256 * 1024
MOST_KEYS = 32
LONGEST_KID = 255
FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""The key type (kty) of an algorithm, by how its name begins."""
CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

Jwk = Mapping[str, Any]


class KeysNotFetched(Exception):
    """The provider did not give its keys; the text says why, and quotes nothing that it said."""


class KeySource:
    """The provider, as far as its keys go."""

    def __init__(self, settings: IdentitySettings) -> None:
        self._settings = settings

    def fetch(self) -> dict[str, Jwk]:
        """Its keys that sign by an algorithm of ours, by `kid`. Raises: KeysNotFetched."""
        url = self._settings.jwks_url or self._discovered()
        return usable(_get(url, self._settings.ca_file), self._settings.algorithms)

    def _discovered(self) -> str:
        """Where its own description says that its keys are."""
        issuer = self._settings.issuer
        found = _get(issuer.rstrip("/") + "/.well-known/openid-configuration", self._settings.ca_file)
        if found.get("issuer") != issuer:
            raise KeysNotFetched("what describes the provider names another issuer")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not is_trusted(url):
            raise KeysNotFetched("its jwks_uri is no address with https://, or with http:// on this machine")
        return url


def _get(url: str, ca_file: str) -> dict[str, Any]:
    """The JSON object at this address: one try, no redirect. Raises: KeysNotFetched."""
    connection = ConnectionSettings(url=url, ca_file=ca_file)
    bounds = HttpSettings(timeout=TIMEOUT_SECONDS, max_response_size=MOST_BYTES)
    try:
        with new_session(connection, bounds) as session:
            session.get_adapter(url).max_retries = TRIED_ONCE  # type: ignore[attr-defined]  # HTTPAdapter has it
            response = session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except requests.Timeout:
        raise KeysNotFetched(f"no answer within {TIMEOUT_SECONDS:g} s") from None
    except ResponseTooLarge:
        raise KeysNotFetched(f"the answer is longer than {MOST_BYTES} bytes") from None
    except VaultError as error:  # what was found to be in the way: a proxy, a file of TLS
        raise KeysNotFetched(str(error)) from None
    except (requests.RequestException, OSError) as error:
        raise KeysNotFetched(f"no connection ({type(error).__name__})") from None
    if response.status_code != 200:
        raise KeysNotFetched(f"status {response.status_code}, expected 200")
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise KeysNotFetched("the answer is no JSON object")
    return found


def usable(found: Mapping[str, Any], algorithms: Collection[str]) -> dict[str, Jwk]:
    """The keys of a JWKS that can be used here, by `kid`. Raises: KeysNotFetched, if it is none."""
    keys = found.get("keys")
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        raise KeysNotFetched(f"the answer is no list of at most {MOST_KEYS} keys")
    fit: dict[str, Jwk] = {}
    for key in keys:
        if isinstance(key, dict) and _is_named(key) and key_of(key, algorithms) is not None:
            fit.setdefault(key["kid"], key)
    return fit


def _is_named(key: Jwk) -> bool:
    kid = key.get("kid")
    return isinstance(kid, str) and 0 < len(kid) <= LONGEST_KID


def key_of(key: Jwk, algorithms: Collection[str]) -> jwt.PyJWK | None:
    """The key, bound to the one algorithm that it may verify; None, if there is none such."""
    uses = key.get("key_ops", ["verify"])
    if key.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        return None
    for algorithm in [key["alg"]] if "alg" in key else algorithms:
        if algorithm in algorithms and _fits(key, algorithm):
            made = _made(key, algorithm)
            if made is not None:
                return made
    return None


def _fits(key: Jwk, algorithm: str) -> bool:
    """PyJWT would take any curve for ES256."""
    return FAMILIES[algorithm[:2]] == key.get("kty") and CURVES.get(algorithm) in (None, key.get("crv"))


def _made(key: Jwk, algorithm: str) -> jwt.PyJWK | None:
    try:
        made = jwt.PyJWK(dict(key), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    return made if made.Algorithm.check_key_length(made.key) is None else None  # an RSA key of 1024 bits is none
