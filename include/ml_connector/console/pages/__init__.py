"""One module a page: gather with queries, render a template."""
