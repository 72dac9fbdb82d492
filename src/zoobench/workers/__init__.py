"""Where groups of cells run, and what runs one."""
