"""A measure, a text source, a study and a figure, found by their entry points."""
