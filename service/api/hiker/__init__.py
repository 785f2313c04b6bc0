"""HikerAPI's routes for stories and highlights: its clients work here when their host is changed.

Its documentation: https://hiker-doc.readthedocs.io (version 1.7.9 of its API).
"""
