"""START HERE."""
