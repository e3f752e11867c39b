"""The vocabulary: stages, replies, the catalogue of codes, verdicts, decisions. Pure values."""
