"""How long quality takes: what is asked of it once a cycle, and once a report."""
