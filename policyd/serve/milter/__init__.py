"""
The milter front end (MILTER_README): sessions that decide, on libmilter's threads.

`session` is what happens, `sessions` how many there are, `listening` the socket, `server` the
wiring to libmilter. pymilter is imported here alone.
"""

from policyd.serve.milter.door import Service
from policyd.serve.milter.listening import takes_descriptors
from policyd.serve.milter.server import MilterServer

__all__ = ["MilterServer", "Service", "takes_descriptors"]
