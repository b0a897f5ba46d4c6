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

# mounted auth|secrets PATH: the type of what is there; nothing if nothing is.
mounted() {
  local listed
  listed=$(command "$cli" "$1" list -format=json) || return
  python3 -c '
import json, sys
found = json.load(sys.stdin).get(sys.argv[1] + "/", {})
version = (found.get("options") or {}).get("version", "1")
print({"kv": f"kv-v{version}"}.get(found.get("type", ""), found.get("type", "")))' "$2" <<<"$listed"
}

while read -r what path type; do
  case $what in \#*) continue ;; esac
  found=$(mounted "$what" "$path")
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

# Policies first: a role that names none yet would let in with nothing.
while IFS= read -r file; do
  file=${file#./}
  case $file in
    sys/policies/acl/*) name=${file##*/}; quietly policy write "${name%.hcl}" "$file" || exit ;;
    */metadata/*) known_of "$file" || exit ;;
    *) quietly write "${file%.json}" "@$file" || exit ;;
  esac
  step "${file%.*}"
done < <(find ./sys -type f | sort; find . -type f ! -path './sys/*' ! -name mounts | sort)
