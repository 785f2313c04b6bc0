"""The `storyhook` command."""
