"""The files of a TLS connection, checked for what they are used for: when the settings are read, and when it fails.

They are read anew for each connection, so a file that is replaced while the program runs is followed. One that is
missing at that moment is an outage like any other, and the same check then says which file it is.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

TRUST_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""What other programs read; in this order, and only where [vault] ca_file is empty."""


@dataclass(frozen=True)
class TlsFiles:
    """Whom to trust, and who we are. Empty: the CAs that certifi comes with, and no client certificate."""

    ca_file: str
    ca_named_by: str
    client_cert: str
    client_key: str

    @property
    def certificate(self) -> tuple[str, str] | str | None:
        """The client certificate, as requests takes it."""
        return (self.client_cert, self.client_key) if self.client_key else self.client_cert or None

    def problems(self) -> list[str]:
        """What is wrong with the files now."""
        found = []
        for name, path in ((self.ca_named_by, self.ca_file), ("[vault] client_cert", self.client_cert)):
            try:
                if not (name in TRUST_VARIABLES and os.path.isdir(path)):  # those may name a directory
                    a_certificate_file(path)
            except ValueError as error:
                found.append(f"{name}: found {path!a}, expected {error}")
        if not found and (mismatch := pair_problem(self.client_cert, self.client_key)):
            found.append(mismatch)
        return found


def trusted_cas(ca_file: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The file with the CAs to trust, and what named it: the setting, or else the environment of the process."""
    if not ca_file:
        for name in TRUST_VARIABLES:
            if environ.get(name):
                return environ[name], name
    return ca_file, "[vault] ca_file"


def a_certificate_file(value: str) -> str:
    """A file with certificates in PEM, or nothing. Raises: ValueError, whose text says what was expected."""
    if not value:
        return value
    a_file(value)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(value)
    except ssl.SSLError:
        raise ValueError("a file with certificates in PEM (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise ValueError(f"a file that can be read, and not: {error.strerror}") from None
    if not context.cert_store_stats()["x509"]:
        raise ValueError("a file with certificates in PEM, and not with revocation lists alone")
    return value


def a_file(value: str) -> str:
    if os.path.isdir(value):
        raise ValueError("a file, and not a directory")
    if value and not os.path.isfile(value):  # which, unlike Path, takes a name that is too long
        raise ValueError("a file that exists")
    return value


def pair_problem(client_cert: str, client_key: str) -> str | None:
    """Why the two cannot be used together; None if they can, or if there are none."""
    if not client_cert:
        return "[vault] client_key: found without client_cert, expected both" if client_key else None
    named = f"[vault] client_key: found {client_key!a}" if client_key else "[vault] client_cert: no client_key"
    try:
        a_file(client_key)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(client_cert, client_key or None, _no_password)
    except PermissionError as error:
        return f"{named}, expected a private key that can be read, and not: {error.strerror}"
    except ssl.SSLError as error:
        return f"{named}, expected {_what_key(error)}"
    except (OSError, ValueError) as error:
        return f"{named}, expected {error}"
    return None


def _no_password() -> str:
    """Called for a key that is encrypted; without it OpenSSL would ask at the terminal."""
    raise ValueError("a private key that is not encrypted")


def _what_key(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the private key that belongs to client_cert"
    return f"a private key in PEM, there or in the file of client_cert (OpenSSL: {error.reason or 'no reason given'})"
