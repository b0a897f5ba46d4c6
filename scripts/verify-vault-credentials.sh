#!/usr/bin/env bash
# Proves that a role can log in, read a path, rotate its token, and that the old token is dead: verify_credentials.py.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/python.sh
. "$here/python.sh"
run verify_credentials.py "$@"
