"""Where a server is found."""


def reachable(host: str) -> str:
    """What a browser on this machine calls the ``host`` that a server listens on."""
    found = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not bound to
    return f"[{found}]" if ":" in found else found
