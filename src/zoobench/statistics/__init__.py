"""Is the difference real? Resampling, paired tests and what is plausible; pure arrays."""
