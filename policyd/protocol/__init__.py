"""Both protocols without I/O: bytes to requests, decisions to actions, and what becomes of them."""
