# Needs Python (3.11 or newer), git and make; everything else is fetched into this directory.
PYTHON ?= python3
UV := .uv/bin/uv
RUN := $(UV) run --no-sync

.PHONY: demo up down test lint format bench bench-backup bench-risk bench-rehearsal bench-guard sync

demo: sync  # from nothing to a release on staging
	$(RUN) runbook demo

up: sync  # start all embedded services
	$(RUN) runbook up

down:  # stop them; their data stays
	$(RUN) runbook down

test: sync  # the whole suite, against real servers
	$(RUN) pytest

lint: sync  # style, types, layers, prefect.yaml
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) runbook lint

format: sync
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: bench-backup bench-risk bench-rehearsal bench-guard bench-judge

bench-backup: sync  # backups and restores against three other ways
	$(RUN) python -m bench.backup

bench-risk: sync  # our judgement of migrations against what they do, and against other linters
	$(RUN) python -m bench.risk

bench-rehearsal: sync  # what the rehearsal costs, against the restore and the `migrate` of which it is made
	$(RUN) python -m bench.rehearsal

bench-guard: sync  # what the application feels of a migration, against plain `migrate` and a zero-downtime backend
	$(RUN) python -m bench.guard

bench-judge: sync  # the judge of releases on simulated traffic, beside two others
	$(RUN) python -m bench.judge

sync: $(UV)
	@$(UV) sync --quiet --locked --all-extras --compile-bytecode

# A virtual environment where Python has one to give (Debian splits it off), else a plain directory.
$(UV):
	@$(PYTHON) -m venv .uv 2>/dev/null || rm -rf .uv
	@if [ -x .uv/bin/pip ]; then .uv/bin/pip install --quiet uv; \
	else $(PYTHON) -m pip install --quiet --target .uv uv; fi
