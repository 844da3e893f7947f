"""Floor 1: what a run records. Knows core only; hands records to whoever listens."""
