"""One use case a module: plain functions over the ports of Services."""
