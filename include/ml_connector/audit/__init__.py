"""Audit trail: rows, chain of seals, monthly partitions, filters and lawful rewrites."""
