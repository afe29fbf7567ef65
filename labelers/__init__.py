"""How step labels are made: one algorithm a file, each a coroutine that awaits a policy."""
