# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "kv/metadata/prod" { capabilities = ["list"] }
path "kv/metadata/prod/*" { capabilities = ["read", "list"] }
path "kv/detailed-metadata/prod" { capabilities = ["list", "scan"] }
path "kv/detailed-metadata/prod/*" { capabilities = ["list", "scan"] }
path "kv/data/prod/llm/openai" { capabilities = ["read", "update"] }
path "kv/metadata/prod/llm/openai" { capabilities = ["read", "patch"] }
path "kv/data/rotations/prod/llm/openai" { capabilities = ["create", "read", "update"] }
path "kv/metadata/rotations/prod/llm/openai" { capabilities = ["read"] }
path "kv/data/prod/user/reporting" { capabilities = ["read", "update"] }
path "kv/metadata/prod/user/reporting" { capabilities = ["read", "patch"] }
path "kv/data/rotations/prod/user/reporting" { capabilities = ["create", "read", "update"] }
path "kv/metadata/rotations/prod/user/reporting" { capabilities = ["read"] }
