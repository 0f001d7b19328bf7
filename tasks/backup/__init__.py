"""Backups that are proved: one snapshot, streamed to the bucket, read back, restored and compared."""
