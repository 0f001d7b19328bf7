"""Signals: what the world tells of an application (requests, logs, PostgreSQL, Prometheus), and its history."""
