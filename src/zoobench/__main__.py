"""`python -m zoobench`."""

from zoobench.cli import entry

if __name__ == "__main__":
    entry()
