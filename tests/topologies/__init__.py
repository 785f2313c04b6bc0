"""The service on stores and brokers of several machines; not a part of `make test`, see CONTRIBUTING.md."""
