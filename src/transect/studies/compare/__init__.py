"""What training changed, layer by layer."""
