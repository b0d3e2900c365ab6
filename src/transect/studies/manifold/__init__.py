"""Where a feature lies on a shape."""
