"""Stateful and remote tests that conditions can call, behind one interface."""
