"""The fork server's own imports: all that it is told to import is this module.

Importing it loads the modules that $ZOOBENCH_PRELOAD names, which the parent sets while it starts
the fork server. What can't be imported is left to the workers that want it, whose cells say so.
"""

import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal

NAMES = "ZOOBENCH_PRELOAD"
"""The variable that holds the modules' names, with commas between them."""

ORPHANED_SECONDS = 3600
"""A fork server that still imports after this long is nobody's: its parent replaces it sooner."""


def load(names: str) -> None:
    """Import them, with no garbage collection among what they load.

    Looking for garbage while they load costs a quarter of the time that torch, timm and
    transformers take, and a child that looks through them copies the pages it shares. At its
    own end the fork server takes them up again: bindings complain of what nobody collected.
    """
    os.setpgrp()  # ended with all that a library starts
    signal.alarm(ORPHANED_SECONDS)
    gc.disable()
    logging.disable(logging.WARNING)  # libraries tell each other of what they will change
    for name in filter(None, names.split(",")):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    logging.disable(logging.NOTSET)
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)
    signal.alarm(0)


if NAMES in os.environ:
    load(os.environ[NAMES])
