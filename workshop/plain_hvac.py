"""Three secrets with hvac and nothing else: right for a script that is done in a minute, and not for a service."""

import os

import hvac

api = hvac.Client(url=os.environ["VAULT_ADDR"])
api.auth.approle.login(role_id=os.environ["ROLE_ID"], secret_id=os.environ["SECRET_ID"])

kv = api.secrets.kv.v2.read_secret_version(
    path="database", mount_point="my-vault-app-kv", raise_on_deleted_version=True
)
dynamic = api.secrets.database.generate_credentials("db-demo-dynamic", mount_point="my-vault-app-database")
static = api.secrets.database.get_static_credentials("db-demo-static", mount_point="my-vault-app-database")

print("KV version", kv["data"]["metadata"]["version"])
print("dynamic user", dynamic["data"]["username"])
print("static user", static["data"]["username"])
print("done", flush=True)
