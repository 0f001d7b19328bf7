"""§3.2: bring the code of a release to the place where it serves."""
