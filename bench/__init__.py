"""Benchmarks: whole syncs against the sandbox, in processes of their own."""
