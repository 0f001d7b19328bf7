"""`runbook check`: the migrations of a branch judged before they are merged, without any real database."""
