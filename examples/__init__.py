"""Examples; each runs from one command."""
