# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "kv/data/dev/llm/openai" { capabilities = ["read"] }
path "kv/metadata/dev/llm/openai" { capabilities = ["read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
