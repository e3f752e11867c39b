"""DNS: questions and their answers, what asks them, and what a process without a loop asks."""
