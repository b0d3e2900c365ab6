"""What an adapter or a full fine-tune did to the weights."""
