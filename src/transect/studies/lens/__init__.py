"""What a state already says about the next token."""
