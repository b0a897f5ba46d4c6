"""Labs, their solutions, and what makes a laptop ready for them: see README.md."""
