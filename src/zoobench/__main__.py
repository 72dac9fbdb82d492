"""`python -m zoobench`."""

import os
import sys

if __name__ == "__main__":
    # `-m` puts the folder that the user stands in first: a torch.py there is not ours to import.
    if sys.path[0] == os.getcwd() and not __file__.startswith(
        os.path.join(sys.path[0], "zoobench")
    ):
        del sys.path[0]
    from zoobench.cli.main import entry

    entry()
