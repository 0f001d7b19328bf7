"""§3.4: does what was deployed answer as it should?"""
