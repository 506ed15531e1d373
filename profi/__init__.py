"""profi: the reference implementation and benchmark harness of ProFI-Painter."""

__version__ = "0.1.0"
