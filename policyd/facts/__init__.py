"""The facts about a transaction: their table, how they are read, what a condition sees of them."""
