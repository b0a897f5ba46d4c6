"""What is said on the command line and on stderr: the options, the log, and problems of the configuration."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from config_loader import DEFAULT_PATH, VaultConfig
from listeners.json_log import JsonFormatter
from listeners.streams import complain
from listeners.usage import CommandLine
from vaultkit.errors import ConfigurationError
from vaultkit.transport.answers import printable

if TYPE_CHECKING:
    from listeners.login_check import LoginCheck
    from listeners.metrics import MetricsListener
    from listeners.metrics_server import MetricsServer

TEXT = "%(asctime)s %(levelname)s %(name)s [%(threadName)s] %(message)s"
EPILOG = """\
exit status:
  0  ended by a signal, every secret read with --once, or nobody reads the output any more
  1  Vault refused the login, a secret was not read with --once, --doctor found a fault, or stdout cannot be written to
  2  the configuration or an option is wrong
After a 1 no supervisor should restart it at once: logins that go on being refused lock the role, for others too.
"""


def parse_arguments(arguments: Sequence[str] | None, version: str) -> argparse.Namespace:
    parser = CommandLine(
        prog="vault_app.py",
        example="VAULT_SECRET_ID=475a6500-... python vault_app.py --once --show-secrets",
        description="Keeps a Vault token and the secrets of config.ini current, and shows how.",
        epilog=EPILOG,
    )
    parser.add_argument("--config", metavar="PATH", default=DEFAULT_PATH, help="the settings [config.ini beside me]")
    parser.add_argument("--once", action="store_true", help="read every enabled secret once, print, revoke the token")
    parser.add_argument("--doctor", action="store_true", help="say what is wrong, from the settings to each secret")
    parser.add_argument("--json", action="store_true", help="with --doctor: one JSON object")
    parser.add_argument("--show-secrets", action="store_true", help="show values instead of a mask")
    parser.add_argument("--no-color", action="store_true", help="no colour, as with NO_COLOR=1")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument(
        "--log-level", type=str.lower, choices=levels, help="what to log to stderr [warning, with json info]"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="json: an object a line, instead of all else"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version}")
    options = parser.parse_args(arguments)
    if options.json and not options.doctor:
        parser.error("--json goes with --doctor")
    options.log_level = options.log_level or ("info" if options.log_format == "json" else "warning")
    return options


def configure_logging(level: str, form: str = "text") -> None:
    """Log to stderr. What the console tells, events and retries, is logged at the level at which one asks for it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level != "debug":
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    if level == "warning" and form == "text":
        logging.getLogger("vaultkit").setLevel(logging.ERROR)


def logs_much(level: str) -> bool:
    """Whether the log's lines would come between the console's."""
    return level in ("debug", "info")


def import_login_check() -> type[LoginCheck]:
    """The listener of [database_dynamic] check_login. Raises: ConfigurationError, without a database driver."""
    try:
        from listeners.login_check import LoginCheck  # not at the top: nothing else needs psycopg
    except ImportError as error:
        problem = "[database_dynamic] check_login: found true, expected false: psycopg is not installed"
        raise ConfigurationError([f"{problem}; pip install 'psycopg[binary]'"]) from error
    return LoginCheck


def start_metrics(config: VaultConfig, version: str) -> tuple[MetricsListener, MetricsServer]:
    """What [metrics] port asks for. Raises: ConfigurationError, without prometheus-client or where it cannot listen."""
    try:
        from listeners.metrics import serve  # not at the top: all else goes without it
    except ImportError as error:
        problem = "[metrics] port: prometheus-client is missing; pip install 'prometheus-client>=0.22,<1'"
        raise ConfigurationError([problem]) from error
    return serve(config, version)


def report(error: ConfigurationError) -> None:
    count = len(error.problems)
    problems = "".join(f"\n  {printable(problem)}" for problem in error.problems)
    complain(f"{count} problem{'s' if count > 1 else ''} in the configuration:{problems}")
