"""Imported first by the server that workers are forked from: it notes the source before runs import it."""

from ema_lab.execution.claim import note_package

note_package()
