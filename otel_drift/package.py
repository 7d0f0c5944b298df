"""What the package is called, which version it has and what it instruments."""

__version__ = "0.1.0"

_instruments = ("keras >= 3.0, < 4",)
_supports_metrics = True
_semconv_status = "development"
