"""Numeric rooms: arrays in, arrays out. Nothing here knows a store, a model, a measure or a study."""
