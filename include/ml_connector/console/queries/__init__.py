"""Console queries, one module per page. Read-only."""
