"""What a program needs to live with Vault: copied as one folder, it imports nothing above it."""
