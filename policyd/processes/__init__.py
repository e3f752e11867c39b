"""Processes of our own: how they are started, how they talk, and how one that is stuck is ended."""
