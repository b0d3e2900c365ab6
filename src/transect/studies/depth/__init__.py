"""What each block is worth, and what foretells it."""
