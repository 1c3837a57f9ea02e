"""Where networks compute."""


def choose_device(asked: str) -> str:
    """``asked`` (auto, cpu or cuda) as torch calls it: auto is cuda where torch finds a CUDA device.

    Raises:
        ValueError: cuda was asked for and there is none, or it is none of the three.
    """
    import torch  # the server reads its settings before torch is imported, which takes seconds

    if asked not in ("auto", "cpu", "cuda"):
        raise ValueError(f"there is no device '{asked}': ask for auto, cpu or cuda")
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise ValueError("cuda was asked for, but torch finds no CUDA device: ask for auto or cpu")
    return "cuda" if available and asked != "cpu" else "cpu"
