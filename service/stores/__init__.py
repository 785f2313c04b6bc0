"""Redis adapters: the only code that knows Redis commands and keys."""
