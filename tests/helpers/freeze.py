"""Imported last by the server that forks runs, see `processes`: what is imported is no garbage.

Without this a child's collector looks through all of it once, and so copies the pages that it shares with the server.
"""

import gc

gc.freeze()
