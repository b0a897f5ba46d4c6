"""Lab 7: an engine of signed identity tokens, JWTs by which other services know this program, with Vault as the issuer.

In a copy of the kit this is `vaultkit/engines/identity.py`; its class, its settings and the field `identity` go on the
lists as those of transit do.
"""

from dataclasses import dataclass

from vaultkit.engines.cache import Cached, SecretEngine
from vaultkit.settings import A_DAY, a_boolean, a_mount, a_name, a_number, setting, several
from vaultkit.transport.answers import expect

LIFE_SHARE = 4 / 5
"""Of its life a JWT is used; who is shown one wants a moment left, and clocks differ."""


@dataclass(frozen=True, kw_only=True)
class IdentitySettings:
    """[identity]: signed identity tokens. Seconds."""

    enabled: bool = setting(a_boolean, False)
    mount: str = setting(a_mount, "identity")
    role: tuple[str, ...] = setting(several(a_name), ("app",))
    refresh_interval: float = setting(a_number(0.1, A_DAY), 5.0)

    @property
    def names(self) -> tuple[str, ...]:
        return self.role


class IdentityEngine(SecretEngine[IdentitySettings]):
    """Identity tokens: `data` holds `token`. One serves to its end, and no longer: nobody would take it then."""

    section = mount_suffix = "identity"
    title, short_title, icon = "Identity", "identity token", "🪪"
    feature = "Identity Secret Engine (signed identity tokens)"

    def fetch(self, name: str, cached: Cached | None) -> Cached:
        answer = self._ask(lambda api: api.secrets.identity.generate_signed_id_token(name, mount_point=self.mount))
        data = expect(answer.body, "data", dict)
        values, ttl = {"token": expect(data, "token", str)}, expect(data, "ttl", int)
        due, until = answer.asked.after(ttl * LIFE_SHARE), answer.asked.after(ttl)
        return self.cached(self.secret(name, values, expires=until), answer, due=due, until=until)
