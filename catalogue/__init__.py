"""The catalogue of secrets: rendered for Vault and Kubernetes, checked, rotated, and compared with what is there."""
