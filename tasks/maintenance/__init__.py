"""Maintenance mode: switched on, seen, and off in every outcome."""
