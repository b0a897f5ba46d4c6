"""python -m gateway: serve the API and, on a second listener, metrics and health, until it is told to end."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # Skip this: it keeps a Ctrl+C during the imports from showing a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys

from config_loader import VaultConfig
from gateway.api.server import CannotListen, run
from gateway.settings import DEFAULT_PATH, GatewaySettings
from gateway.tenants import vault_config
from listeners.command_line import configure_logging
from listeners.streams import flushed, open_missing
from listeners.usage import CommandLine
from vaultkit.errors import ConfigurationError

EPILOG = """\
exit status: 0 ended by a signal, 1 a port is taken, 2 the configuration is wrong
"""


def main() -> int:
    parser = CommandLine(
        prog="python -m gateway",
        example="GATEWAY_TENANTS=acme python -m gateway --config gateway/gateway.ini",
        description="Serves secrets to callers who show a JWT. Where Vault is says config.ini, all else gateway.ini.",
        epilog=EPILOG,
    )
    parser.add_argument("--config", metavar="PATH", default=DEFAULT_PATH, help="the settings [gateway/gateway.ini]")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    options = parser.parse_args()
    open_missing()
    configure_logging(options.log_level, "json")
    try:
        run(*load(options.config))
    except ConfigurationError as error:
        print("gateway.ini, config.ini or the environment:", *error.problems, sep="\n  ", file=sys.stderr)
        return 2
    except CannotListen as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def load(path: str) -> tuple[GatewaySettings, VaultConfig]:
    """Both files. Raises: ConfigurationError, with the problems of both."""
    problems: list[str] = []
    try:
        settings = GatewaySettings.load(path)
    except ConfigurationError as error:
        problems += error.problems
    try:
        config = vault_config()
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return settings, config


if __name__ == "__main__":
    status = main()
    flushed(sys.stdout)  # or Python would complain at the very end of what the access log has told of already
    sys.exit(status)
