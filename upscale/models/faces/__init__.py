"""Networks that find and parse faces; those that restore them are built by spandrel."""

from __future__ import annotations
