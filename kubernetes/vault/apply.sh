#!/usr/bin/env bash
# Tells a Vault or OpenBao server what the catalogue says of an environment: each file below this folder is written to the
# path that it is named by. It converges: run it again, and nothing is made twice, and no secret is touched.
#   VAULT_ADDR=… VAULT_TOKEN=… kubernetes/vault/apply.sh ENVIRONMENT [--dry-run]
# What is no longer in the catalogue stays on the server: `python -m catalogue drift` names it. How auth methods reach
# Kubernetes (auth/…/config) and databases are reached (database/config/…) is yours: it takes credentials.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

die() { printf 'apply.sh: %s\n' "$*" >&2; exit 1; }
step() { printf '  ✓ %s\n' "$*"; }

case "${1:-}" in -h | --help)
  printf 'example: kubernetes/vault/apply.sh dev --dry-run\n\n'
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$here/apply.sh"
  exit
esac
[[ ${1:-} =~ ^[a-z][a-z0-9]*$ && -d $here/$1 ]] || die "usage: apply.sh ENVIRONMENT [--dry-run]; there is one folder for each"
cd "$here/$1"
[ $# -eq 1 ] || [ "$2" = --dry-run ] || die "found $2, expected --dry-run"
if [ $# -eq 2 ]; then
  find . -type f ! -name mounts | sort
  exit
fi
if command -v vault >/dev/null; then cli=vault
elif command -v bao >/dev/null; then cli=bao
else die "neither 'vault' nor 'bao' is on the PATH"
fi
quietly() { command "$cli" "$@" >/dev/null || return; }

auths=$(command "$cli" auth list -format=json)
engines=$(command "$cli" secrets list -format=json)
declare -A listed=([auth]=$auths [secrets]=$engines)

# type_at PATH: the type of what is there, by the listing on stdin; nothing if nothing is.
type_at() {
  python3 -c '
import json, sys
found = json.load(sys.stdin).get(sys.argv[1] + "/", {})
version = (found.get("options") or {}).get("version", "1")
print({"kv": f"kv-v{version}"}.get(found.get("type", ""), found.get("type", "")))' "$1"
}

while read -r what path type; do
  case $what in \#*) continue ;; esac
  found=$(type_at "$path" <<<"${listed[$what]}")
  [ -n "$found" ] || quietly "$what" enable -path="$path" "$type" || exit
  [ -z "$found" ] || [ "$found" = "$type" ] || die "found $found at $path, expected $type; nothing was changed there"
  step "$what $path"
done <mounts

# What is known of a secret: what the rotation has noted beside it stays.
known_of() {
  local said
  said=$(command "$cli" patch "${1%.json}" "@$1" 2>&1 >/dev/null) && return
  case $said in
    *"Code: 404"*) quietly write "${1%.json}" "@$1" ;;
    *) printf '%s\n' "$said" >&2; return 1 ;;
  esac
}

written() {
  local name=${1##*/}
  case $1 in
    sys/policies/acl/*) quietly policy write "${name%.hcl}" "$1" ;;
    */metadata/*) known_of "$1" ;;
    *) quietly write "${1%.json}" "@$1" ;;
  esac
}

# Policies first: a role that names none yet would let in with nothing. What fails is told of, and the rest goes on.
status=0
while IFS= read -r file; do
  file=${file#./}
  if written "$file"; then step "${file%.*}"; else printf '  ✗ %s\n' "${file%.*}" >&2; status=1; fi
done < <(find ./sys -type f | sort; find . -type f ! -path './sys/*' ! -name mounts | sort)
exit "$status"
