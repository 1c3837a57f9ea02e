"""The service: HTTP in, JSON out."""
