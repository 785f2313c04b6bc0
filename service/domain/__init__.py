"""The rules of the business, in plain Python: imports the standard library and itself only."""
