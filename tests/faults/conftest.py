"""Databases of our own."""

from __future__ import annotations

from tests.servers import mariadb, postgres

__all__ = ["mariadb", "postgres"]
