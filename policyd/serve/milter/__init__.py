"""
The milter front end (MILTER_README): sessions that decide, on libmilter's threads.

`session` is what happens, `server` the wiring to libmilter.
"""

from policyd.serve.milter.door import Service
from policyd.serve.milter.server import MilterServer

__all__ = ["MilterServer", "Service"]
