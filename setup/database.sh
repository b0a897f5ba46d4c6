# The engine that issues database credentials, for `setup-vault.sh`, unless neither kind is switched on. No room.

# shellcheck shell=bash disable=SC2154  # what setup-vault.sh has found out

# Python knows how to quote for a URL and for JSON; by stdin the password is on no command line, and @ is no file name.
connection() {
  DB_HOST=$DB_HOST DB_PORT=$DB_PORT DB_NAME=$DB_NAME DB_USER=$DB_USER DB_PASSWORD=$DB_PASSWORD DB_SSLMODE=$DB_SSLMODE \
    python -c '
import json, os, urllib.parse
def quoted(key): return urllib.parse.quote(os.environ[key], safe="")
where = "host=" + quoted("DB_HOST") + "&port=" + quoted("DB_PORT") + "&sslmode=" + quoted("DB_SSLMODE")
print(json.dumps({
    "plugin_name": "postgresql-database-plugin",
    "allowed_roles": "*",
    "username": os.environ["DB_USER"],
    "password": os.environ["DB_PASSWORD"],
    "connection_url": "postgresql://{{username}}:{{password}}@/" + quoted("DB_NAME") + "?" + where,
}))' || return
}
[ -n "$database_type" ] || quietly secrets enable -path="$database" database
connection | quietly write "$database/config/postgres" -
quietly write "$database/roles/db-demo-dynamic" db_name=postgres \
  default_ttl="$DB_DYNAMIC_TTL" max_ttl="$DB_DYNAMIC_MAX_TTL" \
  creation_statements="CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
step "dynamic role db-demo-dynamic at $database (TTL $DB_DYNAMIC_TTL)"

# A static role needs a user that exists. The server reaches the database, this shell perhaps does not: so a short-lived
# dynamic role runs the statement, and is taken away again.
quietly write "$database/roles/setup-static-user" db_name=postgres default_ttl=1m creation_statements="
  DO \$\$ BEGIN CREATE ROLE \"$static_user\" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$;"
quietly read "$database/creds/setup-static-user"
quietly delete "$database/roles/setup-static-user"
# rotation_period, since OpenBao has no rotation_schedule.
write_static_role() {
  quietly write "$database/static-roles/db-demo-static" db_name=postgres username="$static_user" \
    rotation_period="$DB_ROTATION_PERIOD" || return
}
# While it rotates this very role, an OpenBao answers with status 500, "transaction commit failed".
write_static_role 2>/dev/null || { sleep 1 && write_static_role; }
step "static role db-demo-static for the user $static_user (rotated every $DB_ROTATION_PERIOD)"
