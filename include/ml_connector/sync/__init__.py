"""Daily run pipeline: preflight, fetch, plan, guard, push, archive, recover, report."""
