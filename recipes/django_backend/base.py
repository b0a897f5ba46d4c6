"""The backend itself: Django imports `DatabaseWrapper` from here. Each thread has a wrapper of its own."""

from __future__ import annotations

import atexit
from functools import partial
from typing import Any
from weakref import WeakSet

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base

from vaultkit.fork import start_anew_in_children

from ..rotation import Rotation
from .client import vault

GET = {"DYNAMIC_ROLE": vault.get_database_dynamic_secret, "STATIC_ROLE": vault.get_database_static_secret}


class DatabaseWrapper(base.DatabaseWrapper):
    """A thread's connection, opened under the credentials of now, and closed between requests once there are others."""

    def check_settings(self) -> None:
        super().check_settings()
        if sum(bool(self.settings_dict.get(kind)) for kind in GET) != 1:
            raise ImproperlyConfigured(f"DATABASES[{self.alias!r}] takes one of DYNAMIC_ROLE and STATIC_ROLE")
        if self.settings_dict["OPTIONS"].get("pool"):
            # psycopg's pool would open connections with the user and password that it was made with.
            raise ImproperlyConfigured(f"DATABASES[{self.alias!r}]: take CONN_MAX_AGE instead of the option pool")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        open_with = super().get_new_connection
        vault.keep_alive()
        rotation = self._rotation()
        rotation.start()  # here, so that it is started in the child of a fork, too
        _wrappers.add(self)
        try:
            return rotation.connect(
                lambda secret: open_with(
                    {**conn_params, "user": secret.data["username"], "password": secret.data["password"]}
                )
            )
        except psycopg.Error as error:
            bare = error.with_traceback(None)
        # Without the frames below, whose variables hold the password: Django's page of an error shows variables (P1).
        raise bare

    def close_if_unusable_or_obsolete(self) -> None:
        """Django calls it as a request begins and as it ends."""
        super().close_if_unusable_or_obsolete()
        if self.connection is not None and self._rotation().must_go(self.connection):
            self.close()

    def _rotation(self) -> Rotation:
        kind = next(kind for kind in GET if self.settings_dict.get(kind))
        return rotation_for(kind, self.settings_dict[kind])


_rotations: dict[tuple[str, str], Rotation] = {}
_wrappers: WeakSet[DatabaseWrapper] = WeakSet()


def rotation_for(kind: str, role: str) -> Rotation:
    """All threads share one for each role. It cycles nothing: only its own thread may close a connection."""
    made = Rotation(vault, partial(GET[kind], role), cycle=lambda: None, empty=_forget_connections)
    rotation = _rotations.setdefault((kind, role), made)  # whichever thread came first
    if rotation is made:
        start_anew_in_children(rotation)
        atexit.register(rotation.stop)
    return rotation


def _forget_connections() -> None:
    """In the child of a fork: what the parent has opened is the parent's alone (T10)."""
    for wrapper in list(_wrappers):
        wrapper.connection = None
