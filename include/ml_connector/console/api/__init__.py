"""Read-only JSON interface for other programs, with the console's rights."""
