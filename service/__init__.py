"""Storyhook: an asynchronous job-queue scraper for Instagram stories with webhook delivery."""

from importlib.metadata import version

__version__ = version("storyhook")
