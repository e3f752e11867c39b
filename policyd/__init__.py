"""A policy daemon beside Postfix: accept, defer or reject, with the right pair of codes."""

__version__ = "0.1.0"
