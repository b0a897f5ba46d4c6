# Rendered from catalogue.yaml by `python -m catalogue render`: what is changed here is lost.
path "database/creds/user-dev-database" { capabilities = ["read"] }
path "database/static-creds/user-dev-batch-login" { capabilities = ["read"] }
path "pki/issue/user-dev-web-tls" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
