"""The way out to addresses that others chose: where it may go, how long and how much it may take.

Where a connection goes is decided when it is made, on the address actually dialled, so a name that
resolves to another address a moment later (DNS rebinding) gains nothing. urllib3 is used directly,
one layer below requests: the check has to sit where the socket is made, urllib3 reads no proxies
from the environment, and an attempt costs about half the CPU.
"""

from service.egress.client import Answer, Egress
from service.egress.errors import EgressError
from service.egress.lookups import OWNER_MOST, Resolved, Resolver, system_resolver
from service.egress.pool import ANSWER_MAX
from service.egress.stream import Stream

__all__ = [
    "ANSWER_MAX",
    "OWNER_MOST",
    "Answer",
    "Egress",
    "EgressError",
    "Resolved",
    "Resolver",
    "Stream",
    "system_resolver",
]
