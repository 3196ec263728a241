"""Imported once by the server that worker processes are forked from: what every run needs."""

import ema_lab.one_run.pipeline  # noqa: F401
