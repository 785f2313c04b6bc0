"""The HTTP server: connections, bodies and threads; what a call means is `service.api`'s."""
