"""Showing what a policy does before it does it: explanations of single requests."""
