"""Migrations of a small shop, dangerous ones and safe ones, by family.

They are written from what PostgreSQL and Django do and from what other linters look for, not from our rules: a label
holds only as far as running the migration shows the same (bench/truth.py).
"""

from __future__ import annotations

from bench.migrations import columns, constraints, data, indexes, statements, tables, types
from bench.migrations.case import Case

CASES: tuple[Case, ...] = (
    *columns.CASES,
    *types.CASES,
    *indexes.CASES,
    *constraints.CASES,
    *tables.CASES,
    *data.CASES,
    *statements.CASES,
)
