#!/usr/bin/env bash
# Locks out an entity, a role, a mount or everybody, and tells what is left: break_glass.py.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/python.sh
. "$here/python.sh"
run break_glass.py "$@"
