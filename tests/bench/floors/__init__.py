"""The bare parts, as a tutorial would use them: what a figure of Storyhook is compared with.

Each runs as a process of its own against the same store, simulated Instagram and receiver as the service
it is compared with, in the same run.
"""
