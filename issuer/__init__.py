"""Time-bound tokens for services and agents: issued wrapped, kept account of, rotated, and taken back."""

from issuer.issuer import VaultTokenIssuer
from issuer.issues import Issue, Service
from issuer.settings import IssuerSettings

__all__ = ["Issue", "IssuerSettings", "Service", "VaultTokenIssuer"]
