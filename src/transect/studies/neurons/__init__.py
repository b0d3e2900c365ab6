"""Which neurons do the same."""
