"""Preload module of the fork server: snapshots the source before any run imports it.

Multiprocessing preloads modules by name, so that this side effect needs a module of its own.
"""

from ema_lab.execution.claim import note_package

note_package()
