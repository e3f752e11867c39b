"""Profiles of the property tests: `make fuzz` runs them with many more examples."""

from hypothesis import settings

# A slow example says nothing here but that the machine has other work.
settings.register_profile("unhurried", settings(), deadline=None)
settings.register_profile("fuzz", settings(), deadline=None, max_examples=10_000)
settings.load_profile("unhurried")
