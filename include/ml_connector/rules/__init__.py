"""Pure rules: decide what to write, map fields, tags and addresses, render the Notes block."""
