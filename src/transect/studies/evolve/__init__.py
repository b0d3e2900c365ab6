"""How token geometry forms during training."""
