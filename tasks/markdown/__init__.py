"""How results are told to people: Markdown that the Prefect UI, a terminal and a pull request show alike."""
