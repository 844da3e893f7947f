"""Floor 0: nouns and pure functions. No pytest, no database, no HTTP."""
