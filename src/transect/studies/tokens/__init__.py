"""How alike the tokens of a text become with depth."""
