"""The script of somebody who fetches all three secrets, one after the other: hvac, and nothing else."""

import os

import hvac

vault = hvac.Client(url=os.environ["VAULT_ADDR"])
vault.auth.approle.login(role_id=os.environ["ROLE_ID"], secret_id=os.environ["SECRET_ID"])

kv = vault.secrets.kv.v2.read_secret_version(
    path="database", mount_point="my-vault-app-kv", raise_on_deleted_version=True
)
dynamic = vault.secrets.database.generate_credentials("db-demo-dynamic", mount_point="my-vault-app-database")
static = vault.secrets.database.get_static_credentials("db-demo-static", mount_point="my-vault-app-database")

print("KV version", kv["data"]["metadata"]["version"])
print("dynamic user", dynamic["data"]["username"])
print("static user", static["data"]["username"])
print("done", flush=True)
