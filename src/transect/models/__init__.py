"""Models: where their sites are, how they are opened, run, continued and hashed."""
