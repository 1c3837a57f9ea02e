"""Which of the offered kinds of answer an Accept header prefers (RFC 9110, section 12.5.1)."""


def preferred(accept: str, offered: list[str]) -> str | None:
    """The offered media type with the highest weight, the first offered among equals; None where none is accepted.

    A header that names nothing accepts everything, as one that is not there.
    """
    weights: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in item.split(";"))
        if kind:
            weights[kind] = _weight(parameters)
    if not weights:
        return offered[0]
    best, most = None, 0.0
    for kind in offered:
        # The most specific range decides, whatever the others say.
        ranges = (kind, f"{kind.split('/')[0]}/*", "*/*")
        weight = next((weights[name] for name in ranges if name in weights), 0.0)
        if weight > most:
            best, most = kind, weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
