"""§2.4, §4.1, §5: the migrations tried on the restored backup before they touch the database itself."""
