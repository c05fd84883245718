"""Command-line verbs of this layer. One file each, named after the verb; imports stay light until a verb runs."""
