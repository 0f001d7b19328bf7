"""S3: objects with checksums, conditional writes, and the ledger of releases."""
