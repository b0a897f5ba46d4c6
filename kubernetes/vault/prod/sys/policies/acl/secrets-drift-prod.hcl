# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "kv/metadata/prod" { capabilities = ["list"] }
path "kv/metadata/prod/*" { capabilities = ["read", "list"] }
path "kv/detailed-metadata/prod" { capabilities = ["list", "scan"] }
path "kv/detailed-metadata/prod/*" { capabilities = ["list", "scan"] }
path "kv/data/prod/llm/openai" { capabilities = ["read"] }
path "kv/data/prod/user/session-signing" { capabilities = ["read"] }
path "kv/data/prod/user/reporting" { capabilities = ["read"] }
path "sys/policies/acl" { capabilities = ["list"] }
path "auth/kubernetes/role" { capabilities = ["list"] }
