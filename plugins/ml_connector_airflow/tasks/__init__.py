"""Task bodies of the DAGs: open what a step needs, run it, store its call counts, close."""
