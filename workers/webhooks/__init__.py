"""Signing and sending what goes out."""
