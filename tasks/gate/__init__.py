"""The prerequisites of §4: what must be so before a release is begun."""
