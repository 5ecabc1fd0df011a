"""What the console reads, a module a page. Reads only."""
