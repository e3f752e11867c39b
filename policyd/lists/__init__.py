"""Lists: where their entries come from, and how they are looked up."""
