"""Dimension of states by layer, and the loss of each text beside it."""
