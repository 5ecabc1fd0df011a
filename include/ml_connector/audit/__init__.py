"""The audit trail: rows, chained seals, monthly partitions, filters, lawful rewrites."""
