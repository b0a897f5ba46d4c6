"""For the operator of a Vault or OpenBao: is a role's way to a secret sound, and what to do when it is not."""
