"""One request to Vault: where it goes, how long it may take, and what came of it."""
