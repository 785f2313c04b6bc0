"""What runs off the request path: fetching, delivering, sweeping."""
