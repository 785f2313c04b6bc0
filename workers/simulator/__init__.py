"""A pretend Instagram over plain HTTP, for demos and tests.

It answers the paths of ``i.instagram.com``, ``www.instagram.com`` and the ``scontent`` CDN with bodies
shaped like recorded answers, so that the real instagrapi client runs against it unchanged. It is a process
of its own (``python -m workers.simulator``); nothing else in the project imports it, and it imports nothing
of the project.
"""
