"""A JSON-RPC client for catnapd (and SPDK) and the table of its commands. Standard library only."""
