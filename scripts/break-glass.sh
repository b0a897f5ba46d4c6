#!/usr/bin/env bash
# Locks out an entity, a role, a mount or everybody, and tells what is left: break_glass.py.
#   break-glass.sh --from-catalogue SERVICE[-ENVIRONMENT] --dry-run|--go|--lift
# does so with each role that kubernetes/catalogue.yaml gives to a service, one after the other.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/python.sh
. "$here/python.sh"

status=0
worse() { [ "$1" -le "$status" ] || status=$1; }

# Each scope is a run of its own: one that fails does not keep the others, and the worst status is the end's.
of_service() {
  local service=$1 python=$here/../.venv/bin/python scopes kind name
  shift
  [ -x "$python" ] || python=python3
  scopes=$(cd "$here/.." && "$python" -m catalogue --catalogue "${CATALOGUE:-kubernetes/catalogue.yaml}" scopes "$service") || exit 2
  while read -r kind name; do
    if [ "$kind" = by-hand ]; then printf '%s is to be replaced where it comes from\n' "$name"; continue; fi
    (run break_glass.py "$@" "$kind" "$name") </dev/null || worse $?
  done <<<"$scopes"
  exit "$status"
}

if [ "${1:-}" = --from-catalogue ]; then
  [ $# -ge 3 ] || { echo "break-glass.sh: usage: --from-catalogue SERVICE[-ENVIRONMENT] --dry-run|--go|--lift" >&2; exit 2; }
  of_service "${@:2}"
fi
run break_glass.py "$@"
