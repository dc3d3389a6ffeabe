"""What is a table? A numpy record array whose row is written as a class: one text names and types its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, cast, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

Row = TypeVar("Row")
Int32 = Annotated[int, "i4"]
"""A column that there are so many of that four bytes matter."""
_KINDS: dict[object, str] = {int: "i8", float: "f8", Int32: "i4"}
_dtypes: dict[object, np.dtype[np.void]] = {}

if TYPE_CHECKING:

    class Table(np.recarray[Any, Any], Generic[Row]):
        """A record array: a number or a pair of numbers gives a row, a name gives a column."""

        @overload  # type: ignore[override]
        def __getitem__(self, at: int | np.int64 | tuple[int, int]) -> Row: ...
        @overload
        def __getitem__(self, at: str) -> NDArray[Any]: ...
        @overload
        def __getitem__(self, at: slice | NDArray[Any] | list[int]) -> Table[Row]: ...
        def __getitem__(self, at: Any) -> Any: ...
        def __setitem__(self, at: Any, value: Any) -> None: ...
        def copy(self, order: Any = ...) -> Table[Row]: ...

else:
    Table = np.recarray


def dtype_of(row: type[Row]) -> np.dtype[np.void]:
    """The record type of a row class: ``int`` and ``float`` take eight bytes each, in the order of the class."""
    if row not in _dtypes:
        hints = get_type_hints(row, include_extras=True)
        _dtypes[row] = np.dtype([(name, _KINDS[kind]) for name, kind in hints.items()])
    return _dtypes[row]


def zeros(row: type[Row], *shape: int) -> Table[Row]:
    """A table of so many rows, all of them zero."""
    return cast("Table[Row]", np.zeros(shape, dtype_of(row)).view(np.recarray))
