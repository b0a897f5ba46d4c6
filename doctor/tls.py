"""TLS: whether the chain is trusted and the name right, and for how many days the certificate is good."""

from __future__ import annotations

import os
import shlex
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from vaultkit.transport.connection import ConnectionSettings
from vaultkit.transport.connection_errors import EXPIRED, HOSTNAME_MISMATCH, IP_MISMATCH, connection_error
from vaultkit.transport.tls_files import TlsFiles, trusted_cas

from .findings import Findings

SECONDS_A_DAY = 86_400
SOON_DAYS, SOON_SHARE = 30, 1 / 5
"""A certificate ends soon with less left than either: those of a day are replaced each day."""


def look_at_tls(
    sock: socket.socket,
    connection: ConnectionSettings,
    place: str,
    environ: Mapping[str, str],
    findings: Findings,
) -> bool:
    """Whether the server is who it should be, and speaks TLS."""
    files = TlsFiles(*trusted_cas(connection.ca_file, environ), connection.client_cert, connection.client_key)
    if not connection.tls_verify:
        findings.warn("TLS", "the certificate is not checked (tls_verify), so anybody may answer in its place")
        return True
    for problem in files.problems():
        findings.fault("TLS", problem, f"ls -l {shlex.quote(files.ca_file)} {shlex.quote(files.client_cert)}")
        return False
    name = connection.tls_server_name or urlsplit(connection.url).hostname or ""
    try:
        certificate = shake_hands(sock, context_of(files), name)
    except OSError as error:
        seen = str(connection_error(error, connection.url))
        findings.fault("TLS", seen, command_for(error, connection, place, context_of(files)))
        return False
    tell_of_end(certificate, name, place, findings)
    return True


def context_of(files: TlsFiles) -> ssl.SSLContext:
    """As the session has it."""
    context: ssl.SSLContext = create_urllib3_context()
    trusted = files.ca_file or DEFAULT_CA_BUNDLE_PATH
    is_folder = os.path.isdir(trusted)
    context.load_verify_locations(None if is_folder else trusted, trusted if is_folder else None)
    if files.client_cert:
        context.load_cert_chain(files.client_cert, files.client_key or None)
    return context


def shake_hands(sock: socket.socket, context: ssl.SSLContext, name: str) -> dict[str, Any]:
    """The server's certificate. Raises: OSError, such as ssl.SSLCertVerificationError."""
    with context.wrap_socket(sock, server_hostname=name) as secured:
        return dict(secured.getpeercert() or {})


def tell_of_end(certificate: Mapping[str, Any], name: str, place: str, findings: Findings) -> None:
    begins, ends = (ssl.cert_time_to_seconds(certificate[key]) for key in ("notBefore", "notAfter"))
    days = (ends - time.time()) / SECONDS_A_DAY
    soon = min(SOON_DAYS, (ends - begins) / SECONDS_A_DAY * SOON_SHARE)
    seen = f"the chain is trusted, the name {name} is right, the certificate is good for {days:.0f} days"
    if days < soon:
        findings.warn("TLS", f"{seen}: replace it", look_at_certificate(place, name))
    else:
        findings.ok("TLS", seen)


def command_for(error: OSError, connection: ConnectionSettings, place: str, context: ssl.SSLContext) -> str:
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    name = connection.tls_server_name or urlsplit(connection.url).hostname or ""
    if code in (HOSTNAME_MISMATCH, IP_MISMATCH):
        names = names_of(place, context, name) or ["NAME"]
        return f"export VAULT_TLS_SERVER_NAME={names[0]}    # the certificate is for {', '.join(names)}"
    if code == EXPIRED:
        return f"date; {look_at_certificate(place, name)}"
    if code is not None:
        return "export VAULT_CACERT=/path/to/ca.pem    # the CA that signed the server's certificate"
    return f"openssl s_client -connect {place}    # does it speak TLS, does it want a client certificate?"


def names_of(place: str, context: ssl.SSLContext, name: str) -> list[str]:
    """Whom the certificate is for; asked with the chain checked, and the name not."""
    context.check_hostname = False
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2) as sock:
            found = shake_hands(sock, context, name)
    except OSError:  # through a proxy, for one
        return []
    return [str(each) for _, each in found.get("subjectAltName", ())]


def look_at_certificate(place: str, name: str) -> str:
    return f"openssl s_client -connect {place} -servername {name} </dev/null | openssl x509 -noout -dates -subject"
