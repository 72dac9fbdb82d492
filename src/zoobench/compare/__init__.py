"""Two runs in, verdicts out: whether anything became worse. No torch, no printing."""
