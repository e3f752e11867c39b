"""The policy language: conditions, outcomes, texts, and the compiled policy."""
