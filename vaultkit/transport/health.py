"""How the server is: `sys/health`, which needs no token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..events import Health
from .answers import expect

if TYPE_CHECKING:
    import hvac

STATES = ("initialized", "sealed", "standby")


def health_of(api: hvac.Client) -> Health:
    """What state it is in, whichever. Raises: VaultUnavailable, UnexpectedResponse."""
    # Each state is asked to be told with status 200: a retry would not change it.
    body = api.sys.read_health_status(
        method="GET",
        standby_code=200,
        performance_standby_code=200,
        dr_secondary_code=200,
        sealed_code=200,
        uninit_code=200,
    )
    states = {state: expect(body, state, bool) for state in STATES}
    return Health(version=expect(body, "version", str), **states)
