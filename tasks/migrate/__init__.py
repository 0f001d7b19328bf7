"""§3.3, §4.5: apply the migrations."""
