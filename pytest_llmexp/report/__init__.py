"""Floor 3: one view of an experiment, read from the store, and its renderers."""
