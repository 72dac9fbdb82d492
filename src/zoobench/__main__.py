"""`python -m zoobench`."""

from zoobench.cli.main import entry

if __name__ == "__main__":
    entry()
