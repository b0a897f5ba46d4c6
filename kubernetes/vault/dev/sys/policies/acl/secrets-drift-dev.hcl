# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "kv/metadata/dev" { capabilities = ["list"] }
path "kv/metadata/dev/*" { capabilities = ["read", "list"] }
path "kv/detailed-metadata/dev" { capabilities = ["list", "scan"] }
path "kv/detailed-metadata/dev/*" { capabilities = ["list", "scan"] }
path "kv/data/dev/llm/openai" { capabilities = ["read"] }
path "kv/data/dev/user/session-signing" { capabilities = ["read"] }
path "sys/policies/acl" { capabilities = ["list"] }
path "auth/kubernetes-dev/role" { capabilities = ["list"] }
