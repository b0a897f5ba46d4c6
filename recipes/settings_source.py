"""pydantic-settings: fields that Vault fills, beside those that the environment does.

When to use it: where a program has its settings in a pydantic model already. Mark what is in Vault, and read it:

    class Settings(VaultSettings):
        debug: bool = False
        api_key: Annotated[SecretStr, Kv("database", "api_key")]
        reporting: Annotated[Login, DatabaseLogin("db-demo-static")]

    settings = read_settings(Settings, client)

Settings are read once, and Vault's change: a KV value may be replaced, a static password rotates, and a dynamic user
goes with its lease or at the end of the client. So settings are right for what the next start may pick up. For what
must follow, read them again (what is fresh comes from the client's cache), or ask the client itself where the value is
used: a database pool takes credentials as a function, never from here (`vault_pool`).

Without it: each secret is copied into an environment variable, where every child process and crash report has it; or
a model shows it, in its `repr` and in the text of a validation error. No field that Vault filled is in either.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vault_client import VaultClient
from vaultkit.errors import SecretNotFound

_client: ContextVar[VaultClient] = ContextVar("client of read_settings")


@dataclass(frozen=True)
class Kv:
    """Fills a field with one value of a KV v2 secret."""

    path: str
    key: str

    def read(self, client: VaultClient) -> Any:
        data = client.get_kv_secret(self.path).data
        if self.key not in data:
            raise SecretNotFound(f'the secret at {self.path} has no "{self.key}"; it has {", ".join(sorted(data))}')
        return data[self.key]


@dataclass(frozen=True)
class DatabaseLogin:
    """Fills a field, a `Login`, with database credentials: those of a static role or, with `dynamic`, of a lease."""

    role: str
    dynamic: bool = False

    def read(self, client: VaultClient) -> Any:
        get = client.get_database_dynamic_secret if self.dynamic else client.get_database_static_secret
        return dict(get(self.role).data)


class Login(BaseModel):
    """Who to log in to a database as."""

    username: str
    password: SecretStr


class VaultSource(PydanticBaseSettingsSource):
    """Asks the client for each field that is marked. Raises: an error of `vaultkit.errors`, as it comes."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        place = place_of(field)
        return (None if place is None else place.read(_client.get())), field_name, False

    def __call__(self) -> dict[str, Any]:
        asked_for = {
            name: field
            for name, field in self.settings_cls.model_fields.items()
            if place_of(field) and name not in self.current_state  # where it was handed over
        }
        return {name: self.get_field_value(field, name)[0] for name, field in asked_for.items()}


def place_of(field: FieldInfo) -> Kv | DatabaseLogin | None:
    return next((mark for mark in field.metadata if isinstance(mark, (Kv, DatabaseLogin))), None)


class VaultSettings(BaseSettings):
    """The base of a model with marked fields. What is handed over wins over Vault, and Vault over the environment."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *others: Any, **more: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, VaultSource(settings_cls), *others, *more.values()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        marked = {name for name, field in type(self).model_fields.items() if place_of(field)}
        return ((name, value) for name, value in super().__repr_args__() if name not in marked)


SettingsT = TypeVar("SettingsT", bound=VaultSettings)


def read_settings(kind: type[SettingsT], client: VaultClient, **given: Any) -> SettingsT:
    """The settings as they are now. Raises: pydantic.ValidationError, or an error of `vaultkit.errors`."""
    token = _client.set(client)
    try:
        return kind(**given)
    finally:
        _client.reset(token)
