"""PostgreSQL: connections, identity, locks and server binaries."""
