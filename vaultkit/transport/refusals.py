"""The errors for an answer that is no success: Vault's own words, and what they mean for what is cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import requests

from ..errors import (
    PermissionDenied,
    RequestRejected,
    SecretDeleted,
    SecretNotFound,
    UnexpectedResponse,
    VaultError,
    VaultOverloaded,
    VaultSealed,
    VaultStandby,
    VaultUnavailable,
)
from .answers import RETRY_STATUSES, in_words, json_object, quoted, retry_after_of

PAST_MAX_TTL = "past the max TTL"
"""Comes with status 500, and is Vault's answer all the same: this token is not renewed any more (T7)."""
CAPABILITY_OF_METHOD = {"get": "read", "post": "update", "put": "update", "delete": "delete"}
"""Those that have another name than the method; `list` and OpenBao's `scan` are both."""
UNAVAILABLE_STATUSES: dict[int, type[VaultUnavailable]] = {
    429: VaultOverloaded,
    472: VaultStandby,  # a disaster-recovery secondary
    473: VaultStandby,  # a performance standby that cannot reach the active node
    501: VaultSealed,  # not initialised
    503: VaultSealed,
}


def status_error(response: requests.Response, method: str, path: str) -> VaultError:
    """The error that a status other than success stands for."""
    status = response.status_code
    try:
        body = json_object(response, path)
    except UnexpectedResponse as unexpected:
        return _unavailable(response, path, []) if status in RETRY_STATUSES else unexpected
    errors = body.get("errors")
    texts = [text for text in errors if isinstance(text, str)] if isinstance(errors, list) else []
    if status == 404 and (isinstance(errors, list) or "data" in body):
        return _missing(body, path, texts, str(response.request.headers.get("X-Vault-Namespace", "")))
    if not isinstance(errors, list) and status < 500:
        return UnexpectedResponse(f"{path} was answered with status {status}, but not in the way that Vault does")
    if status == 403:
        capability = CAPABILITY_OF_METHOD.get(method.lower(), method.lower())
        return PermissionDenied(in_words(texts) or "refused with status 403", capability, path)
    past_max_ttl = any(PAST_MAX_TTL in text for text in texts)
    if (status in UNAVAILABLE_STATUSES or status in RETRY_STATUSES or status >= 500) and not past_max_ttl:
        return _unavailable(response, path, texts)
    return RequestRejected(f"{path} was turned down with status {status}{quoted(texts)}")


def _missing(body: dict[str, Any], path: str, texts: Sequence[str], namespace: str) -> SecretNotFound:
    """A 404: KV v2 sends the metadata of a version that was deleted or destroyed along with it (K3)."""
    data = body.get("data")
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if isinstance(metadata, dict):
        what = "destroyed" if metadata.get("destroyed") is True else "deleted"
        return SecretDeleted(f"the current version of {path} was {what}")
    where = f' in the namespace "{namespace}" ([vault] namespace)' if namespace else ""
    return SecretNotFound(f"there is nothing at {path}{where}{quoted(texts)}")


def _unavailable(response: requests.Response, path: str, texts: Sequence[str]) -> VaultUnavailable:
    status = response.status_code
    kind = UNAVAILABLE_STATUSES.get(status, VaultUnavailable)
    if status >= 500 and any("standby" in text or "not active" in text for text in texts):
        kind = VaultStandby  # 500: "local node not active but active cluster node not found"
    elif status == 503 and not any("sealed" in text for text in texts):
        kind = VaultUnavailable  # a load balancer without a healthy node answers 503 too
    error = kind(f"{path} was answered with status {status}{quoted(texts)}")
    error.retry_after = retry_after_of(response.headers)
    return error
