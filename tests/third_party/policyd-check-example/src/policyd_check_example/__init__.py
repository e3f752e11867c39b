"""Two checks for policyd: one that may block or compute, one that only waits."""
