"""The whole service in real processes."""
