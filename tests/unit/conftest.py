"""How hypothesis runs here: no deadline, so that a busy machine fails no test, and no folder left behind."""

from hypothesis import settings

settings.register_profile("storyhook", deadline=None, database=None)
settings.load_profile("storyhook")
