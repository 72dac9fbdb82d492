"""Records in, decisions out: no torch, no printing."""
