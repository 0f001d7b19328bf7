"""From files to running things: environments, embedded services, the lint of prefect.yaml, the `runbook` command."""
