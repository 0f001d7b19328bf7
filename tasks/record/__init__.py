"""The release as a whole: opened or taken up again, closed, and told as a report."""
