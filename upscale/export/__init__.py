"""Networks as files for other programs, and their model cards."""

from __future__ import annotations
