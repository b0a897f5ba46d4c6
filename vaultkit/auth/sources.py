"""Where a login method gets its credentials: a file, an address, a command. None of them is ever quoted (P1)."""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE
from urllib.parse import urlsplit

from ..errors import LoginUnavailable, VaultError
from ..transport.connection import ConnectionSettings, HttpSettings
from ..transport.proxies import Proxies
from ..transport.tls_files import TlsFiles, a_file, trusted_cas

SECONDS = 10.0
"""How long an address or a command may take."""
LONGEST_BYTES = 65_536


def from_file(path: str, setting: str) -> str:
    """The text of a file without white space around it. Raises: LoginUnavailable."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise LoginUnavailable(f"{setting}: {path} cannot be read: {reason}") from None
    if not text:
        raise LoginUnavailable(f"{setting}: {path} is empty")
    return text


def file_problem(path: str, setting: str) -> list[str]:
    """What is wrong with a file that is named in the settings, as a list of at most one."""
    try:
        a_file(path)
    except ValueError as error:
        return [f"{setting}: found {path!a}, expected {error}"]
    return []


def from_address(url: str, headers: Mapping[str, str], field: str, setting: str) -> str:
    """The answer of an address: its text, or the value of one field of its JSON. Raises: LoginUnavailable.

    Metadata servers of clouds and GitHub's token server are such addresses. Redirects are not followed: they could lead
    the headers elsewhere.
    """
    parts = urlsplit(url)
    where = f"{setting}: {parts.scheme}://{parts.hostname}{parts.path}"  # the query may hold secrets
    status, body = _get(url, headers, where)
    if status != 200:
        raise LoginUnavailable(f"{where} was answered with status {status}")
    try:
        text = json.loads(body)[field] if field else body.decode().strip()
    except (ValueError, LookupError, TypeError, RecursionError):
        text = None
    if not text or not isinstance(text, str):
        expected = f'JSON with a text in the field "{field}"' if field else "text"
        raise LoginUnavailable(f"{where} was not answered with {expected}") from None
    return text


def _get(url: str, headers: Mapping[str, str], where: str) -> tuple[int, bytes]:
    """Status and body, within the bounds of requests to Vault. Which proxy and which CAs is said by the environment."""
    import requests  # here alone, for the settings are read without

    from ..transport.session import BoundedHTTPAdapter

    connection, bounds = ConnectionSettings(url=url), HttpSettings(timeout=SECONDS, max_response_size=LONGEST_BYTES)
    proxies = Proxies("", {} if _is_link_local(url) else os.environ)
    files = TlsFiles(*trusted_cas("", os.environ), "", "")
    with requests.Session() as session:
        session.trust_env = False  # a .netrc would change the headers
        session.mount(f"{urlsplit(url).scheme}://", BoundedHTTPAdapter(connection, bounds, proxies, files))
        try:
            answer = session.get(url, headers=dict(headers), timeout=SECONDS, allow_redirects=False)
        except (VaultError, OSError, ValueError) as error:
            raise LoginUnavailable(f"{where} gave no answer ({type(error).__name__})") from None
    return answer.status_code, answer.content


def _is_link_local(url: str) -> bool:
    """Whether it is a metadata server of this machine's own network: no proxy could reach it."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return host == "metadata.google.internal"


def from_command(command: str, setting: str) -> str:
    """What a command prints. It is started without a shell. Raises: LoginUnavailable."""
    name, *arguments = shlex.split(command)
    try:
        with subprocess.Popen([name, *arguments], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL) as process:
            printed = _printed_by(process)
    except subprocess.TimeoutExpired:
        raise LoginUnavailable(f"{setting}: {name} took longer than {SECONDS:g} s") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a null byte is in it"
        raise LoginUnavailable(f"{setting}: {name} cannot be started: {reason}") from None
    if process.returncode != 0:
        raise LoginUnavailable(f"{setting}: {name} ended with status {process.returncode}; run it by hand to see why")
    text = printed.decode(errors="replace").strip()
    if not text:
        raise LoginUnavailable(f"{setting}: {name} printed nothing")
    return text


def _printed_by(process: subprocess.Popen[bytes]) -> bytes:
    """Not `subprocess.run`, which after a timeout goes on waiting for the children of its child."""
    try:
        return process.communicate(timeout=SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise
