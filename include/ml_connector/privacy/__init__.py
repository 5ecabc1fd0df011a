"""Erase a person and rotate keys: the jobs that touch every stored payload."""
