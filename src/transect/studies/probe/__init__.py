"""What a linear probe reads from a state, and what it would read from anything."""
