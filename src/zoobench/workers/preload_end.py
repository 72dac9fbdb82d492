"""Imported last by the fork server: collects garbage again, but not among what it has loaded.

That is never garbage, and a child that looks through it copies the pages it shares. At its own
end the fork server takes it up again: bindings complain of what nobody has collected.
"""

import atexit
import gc

gc.freeze()
gc.enable()
atexit.register(gc.unfreeze)
