"""A digit recognizer that needs both to see and to hear."""
