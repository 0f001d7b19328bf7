"""The Django application: its checkout, its interpreter, its management command, and the probe that asks it."""
