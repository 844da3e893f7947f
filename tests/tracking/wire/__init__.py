"""Reading what model servers say, family by family."""
