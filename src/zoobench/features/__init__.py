"""Features of frozen models, computed once and fast."""
