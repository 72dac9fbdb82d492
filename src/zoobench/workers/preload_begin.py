"""Imported first by the fork server: while it loads what workers want there is no garbage.

Looking for some costs a quarter of the time that torch, timm and transformers take to load.
`loaded` ends this. Modules, since all that a fork server can be told is what to import.
"""

import gc

gc.disable()
