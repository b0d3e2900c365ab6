"""How far representations move from layer to layer."""
