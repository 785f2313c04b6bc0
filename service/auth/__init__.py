"""Who the caller is: passwords, tokens, API keys."""
