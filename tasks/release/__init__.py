"""The nouns that every stage speaks in: Environment, Release, and the errors."""
