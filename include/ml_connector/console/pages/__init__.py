"""Console pages, one module each: run queries, render a template."""
