"""config.json: schema, loading, identities."""
