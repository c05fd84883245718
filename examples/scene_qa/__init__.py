"""A trained model that answers questions about drawn scenes."""
