"""The command line: it parses, calls one function, and sets the exit code."""
