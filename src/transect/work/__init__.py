"""Work done over many blocks: a local pool, Ray, or one share of many equal processes; and the keys of what
is kept."""
