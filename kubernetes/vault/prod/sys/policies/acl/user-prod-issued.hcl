# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "database/creds/user-prod-database" { capabilities = ["read"] }
path "database/static-creds/user-prod-batch-login" { capabilities = ["read"] }
path "pki/issue/user-prod-web-tls" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
