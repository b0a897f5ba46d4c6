"""How one logs in: a file for each login method, with its settings."""

from typing import Any

from .approle import AppRole, AppRoleSettings
from .aws import Aws
from .cert import Cert
from .given_token import GivenToken
from .jwt import Jwt
from .kubernetes import Kubernetes
from .method import LoginMethod

__all__ = ["METHODS", "AppRole", "AppRoleSettings", "LoginMethod"]

METHODS: dict[str, type[LoginMethod[Any]]] = {
    "approle": AppRole,
    "kubernetes": Kubernetes,
    "jwt": Jwt,
    "cert": Cert,
    "token": GivenToken,
    "aws": Aws,
}
"""What [vault] auth_method may be."""
