"""The chapters of the runbook, one Prefect flow each."""
