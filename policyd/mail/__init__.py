"""What a message says of itself: who authenticates it, and what is in it; run beside the worker."""
