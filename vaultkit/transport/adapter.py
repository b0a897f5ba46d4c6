"""What goes between hvac and the session: JSON objects for answers, and our own errors for everything else.

hvac's own exceptions carry response bodies; these do not (P1).
"""

from __future__ import annotations

import copy
import http.client
import math
from typing import Any

import requests
import urllib3
from hvac.adapters import RawAdapter

from .answers import json_object
from .connection_errors import connection_error, os_cause
from .refusals import status_error

ROOT_ONLY_PATHS = ("sys/health", "sys/init", "sys/seal-status", "sys/leader", "sys/ha-status")
"""They tell of the server, not of a namespace, and are not found in one (H1)."""
REQUEST_TROUBLE = (
    requests.RequestException,
    OSError,  # the files of TLS
    urllib3.exceptions.HTTPError,
    urllib3.exceptions.HTTPWarning,  # with python -W error
    http.client.HTTPException,
    ValueError,  # an address, header or redirect that requests or urllib3 cannot read
)
"""What comes instead of an answer. No broad `except`: a mistake in the program is no outage."""


class VaultAdapter(RawAdapter):  # type: ignore[misc]  # hvac is not typed
    """hvac's adapter, with JSON objects for answers and the errors of this project for everything else."""

    def request(
        self, method: str, url: str, headers: Any = None, raise_exception: bool = True, **kwargs: Any
    ) -> dict[str, Any]:
        """Send one request; return the JSON object of the answer, {} if it is empty.

        Raises: an error of `errors`. With `raise_exception=False` (hvac's health check) any status is an answer.
        """
        path = url.removeprefix("/v1/")
        try:
            response = self._for_path(path)._send(method, url, headers, **kwargs)
        except REQUEST_TROUBLE as error:
            raise connection_error(error, self.base_uri) from os_cause(error)
        if raise_exception and not response.ok:
            raise status_error(response, method, path)
        return json_object(response, path) if response.content else {}

    def _send(self, method: str, url: str, headers: Any, **kwargs: Any) -> requests.Response:
        # Whoever asks may give a request less time than [http] timeout, but not more.
        kwargs["timeout"] = min(kwargs.get("timeout", math.inf), self._kwargs["timeout"])
        response: requests.Response = super().request(method, url, headers, raise_exception=False, **kwargs)
        return response

    def _for_path(self, path: str) -> VaultAdapter:
        """This adapter, or for what is found outside of namespaces alone, one without."""
        if not self.namespace or path not in ROOT_ONLY_PATHS:
            return self
        adapter = copy.copy(self)
        adapter.namespace = None
        return adapter
