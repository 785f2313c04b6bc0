"""The same work as a plain Celery tutorial does it; only what it takes, in a tutorial's words.

A Flask route that calls ``delay``; prefork workers; a Redis result backend; ``requests.get`` and
``requests.post`` without sessions; ``self.retry(countdown=...)``. No leases, no credits, no signatures.
It is spared what Storyhook does besides: it knows the user's id, and one task both fetches and sends.
"""
