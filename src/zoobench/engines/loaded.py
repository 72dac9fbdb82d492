"""Imported last by the fork server: collects garbage again, but not among what it has loaded.

That is never garbage, and a child that looks through it copies the pages it shares.
"""

import gc

gc.freeze()
gc.enable()
