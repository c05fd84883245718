"""What engines refuse in a graph and what they compute wrongly, and how a graph is rewritten so that they do not."""
