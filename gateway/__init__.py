"""The secrets gateway: a JWT in, a secret out, and nobody's Vault token in between."""
