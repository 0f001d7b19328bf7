"""What died: found in the records, put right, or told."""
