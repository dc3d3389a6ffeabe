"""What do columns of FATE's tables hold? Types that mean the same on every database that Airflow may have."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine


def name(length: int) -> TypeEngine[str]:
    """A name, of which upper and lower case are two: MySQL's usual collations take them for one."""
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")
