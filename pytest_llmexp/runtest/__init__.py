"""Floor 5: the pytest side. Options, marks, collection, fixtures, execution, xdist, terminal."""
