"""The stages of the runbook, one package each; `<stage>/stage.py` holds its Prefect tasks."""
