"""The archive: media that outlive their URLs, in a folder or in S3, found by the hash of their bytes.

`keeper` decides what is kept and what is deleted, `staging` and `files` move bytes, `links` signs URLs. The
index is in the store (`service.stores.archive`).
"""
