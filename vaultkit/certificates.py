"""A private key of our own, the request for a certificate of it, and what is to be seen of the one that comes.

All that the project does with the package cryptography, which only `engines/pki.py` brings here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .errors import ConfigurationError, UnexpectedResponse

PEM = serialization.Encoding.PEM


class KeyPair:
    """A new key on the curve P-256, for one certificate."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> str:
        """The private key, not encrypted, as TLS libraries read it."""
        plain = serialization.NoEncryption()
        return self._key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain).decode()

    def signing_request(self, names: Sequence[str]) -> str:
        """A CSR, PEM: these names, the first of which is the common name, and the proof that we have the key.

        Raises: ConfigurationError, for what is no name.
        """
        try:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
            alt_names = x509.SubjectAlternativeName([alt_name(name) for name in dict.fromkeys(names)])
        except ValueError as error:
            raise ConfigurationError([f"no certificate can be for {', '.join(names)}: {error}"]) from error
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(alt_names, critical=False)
        return request.sign(self._key, hashes.SHA256()).public_bytes(PEM).decode()

    def end_of(self, certificate: str, now: float) -> float:
        """When a certificate of this key ends, by the wall clock.

        Raises: UnexpectedResponse, for what is no certificate, is one of another key, or has ended `now`.
        """
        try:
            read = x509.load_pem_x509_certificate(certificate.encode())
            is_ours = read.public_key() == self._key.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise UnexpectedResponse('the "certificate" in the answer cannot be read') from None
        if not is_ours:
            raise UnexpectedResponse("the certificate is for another key than that of the request")
        ends = read.not_valid_after_utc
        if ends.timestamp() <= now:
            here = datetime.fromtimestamp(now, timezone.utc)
            raise UnexpectedResponse(f"the certificate ends at {ends:%F %T}, and by the clock here it is {here:%F %T}")
        return ends.timestamp()


def alt_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
