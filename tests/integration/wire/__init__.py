"""What the tests of the wire share: the matrix of cells, how each is talked through and shown."""
