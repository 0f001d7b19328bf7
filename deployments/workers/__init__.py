"""Workers as services of a machine: a systemd unit per work pool, and how one is stopped without killing its runs."""
