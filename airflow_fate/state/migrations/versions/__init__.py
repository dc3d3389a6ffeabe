"""Alembic migrations of the ``fate_`` tables."""
