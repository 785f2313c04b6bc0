"""The HTTP front end: one blueprint a resource, parse, call an action, answer."""
