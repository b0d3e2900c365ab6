"""The store: points of every site with tokens, labels and provenance on disk, and how it is captured."""
