"""The baseline: what is normal, collected on a schedule and kept."""
