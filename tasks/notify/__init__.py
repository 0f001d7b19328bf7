"""Notices to channels and contacts."""
