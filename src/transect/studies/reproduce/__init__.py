"""Published claims, measured again by name."""
