"""First module that the fork server imports: prepares it for the others.

It snapshots the source before any run imports it, and switches the garbage collector off, which would search
the imports again and again; each worker switches it on. Multiprocessing preloads modules by name, so that
these side effects need a module of their own.
"""

import gc

from ema_lab.execution.claim import note_package

gc.disable()
note_package()
