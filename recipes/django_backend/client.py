"""The client of this process: for the backend, and for what else asks for secrets, settings.py included."""

from __future__ import annotations

import atexit

from config_loader import VaultConfig
from vault_client import VaultClient

vault = VaultClient(VaultConfig.load())
atexit.register(vault.close)  # also in a child of gunicorn, which ends as Python does
