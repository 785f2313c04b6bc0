"""Upstreams behind one small contract (see `contract.py`), one file each."""
