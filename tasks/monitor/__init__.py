"""The watch: what is measured, what it is compared with, and the judgement."""
