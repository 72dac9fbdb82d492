"""A suite file, the cells that it asks for, and a whole run of them."""
