"""Timed checks, with the machine named; never assertions."""
