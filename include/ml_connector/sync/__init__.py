"""The daily run in its order: preflight, fetch, plan, guard, push, archive, recover, report."""
