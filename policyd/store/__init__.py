"""State of greylisting and limits behind one interface: in memory, in SQLite, in Redis."""
