# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "kv/data/dev/user/session-signing" { capabilities = ["read"] }
path "kv/metadata/dev/user/session-signing" { capabilities = ["read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
