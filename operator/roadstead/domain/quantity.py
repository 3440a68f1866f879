"""Bytes in words: binary units everywhere, because memory and files are counted so."""

_STEP = 1024
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def in_words(number_of_bytes: int) -> str:
    """``345.2 MiB``; exact below 1 KiB, one decimal above."""
    value = float(number_of_bytes)
    for unit in _UNITS:
        if abs(value) < _STEP or unit == _UNITS[-1]:
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= _STEP
    raise AssertionError("the last unit always returns")
