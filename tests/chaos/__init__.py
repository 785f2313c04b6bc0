"""The proof that nothing is lost and nothing charged twice: `make chaos`, see docs/chaos.md."""
