"""The question to a person, and the answer."""
