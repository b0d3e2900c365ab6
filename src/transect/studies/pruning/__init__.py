"""How many neurons are redundant."""
