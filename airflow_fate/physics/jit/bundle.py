"""How does compiled code get dozens of arrays? As one pointer to a table of where they lie.

Numba hands over a named tuple array by array, seven words each, at every call that is not inlined: for a world and a
profile that was most of the time, both of running and of compiling.
"""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed, lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, models, register_model, unbox


class Bundle:
    """Base of a frozen dataclass whose fields are arrays, all of them C-contiguous.

    Compiled functions take it as an argument and read its fields; they can't replace them.
    """

    _numba_type_: ClassVar[BundleType]
    _address: int

    def __post_init__(self) -> None:
        """:raises TypeError: naming the field that is not an array of the type that it was when the first was made."""
        kind = type(self)
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        if "_numba_type_" not in vars(kind):
            kind._numba_type_ = BundleType(kind.__name__, arrays)
        words: list[int] = []
        for name, array in arrays.items():
            if not kind._numba_type_.takes(name, array):
                raise TypeError(f"{kind.__name__}.{name} is an array of another type or order of bytes")
            words += [array.size, array.ctypes.data, *array.shape]
        table = np.array(words, dtype=np.int64)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_address", table.ctypes.data)


class BundleType(types.Type):
    """What Numba knows of a bundle: the types of its arrays and where in the table they stand."""

    def __init__(self, kind: str, arrays: dict[str, Any]) -> None:
        self.arrays = {name: typeof(array) for name, array in arrays.items()}
        self.forms = {name: (array.dtype, array.ndim) for name, array in arrays.items()}
        self.words: dict[str, int] = {}
        word = 0
        for name, array in arrays.items():
            self.words[name] = word
            word += 2 + array.ndim
        # The name is part of every compiled symbol: a short one stands for all fields.
        types_of = ";".join(f"{name}:{array}" for name, array in self.arrays.items())
        super().__init__(name=f"{kind}_{blake2b(types_of.encode(), digest_size=4).hexdigest()}")

    def takes(self, name: str, array: Any) -> bool:
        return (
            isinstance(array, np.ndarray)
            and (array.dtype, array.ndim) == self.forms[name]
            and array.flags.c_contiguous
            and array.flags.writeable
        )


@register_model(BundleType)
class _Pointer(models.OpaqueModel):
    pass


@infer_getattr
class _Fields(AttributeTemplate):
    key = BundleType

    def generic_resolve(self, kind: BundleType, name: str) -> Any:  # type: ignore[override]
        return kind.arrays.get(name)


@lower_getattr_generic(BundleType)
def _read(context: Any, builder: Any, kind: BundleType, pointer: Any, name: str) -> Any:
    array_type = kind.arrays[name]
    word_type = context.get_value_type(types.intp)
    table = builder.bitcast(pointer, word_type.as_pointer())

    def word(at: int) -> Any:
        loaded = builder.load(builder.gep(table, [ir.Constant(ir.IntType(32), kind.words[name] + at)]))
        # An array stays where it is as long as its bundle lives, so one look is enough.
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
        return loaded

    shape = [word(2 + axis) for axis in range(array_type.ndim)]
    item_bytes = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
    strides = [ir.Constant(word_type, item_bytes)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(array_type)(context, builder)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    array.parent = cgutils.get_null_value(array.parent.type)
    array.nitems = word(0)
    array.itemsize = ir.Constant(word_type, item_bytes)
    array.data = builder.inttoptr(word(1), array.data.type)
    array.shape = cgutils.pack_array(builder, shape)
    array.strides = cgutils.pack_array(builder, strides)
    return impl_ret_borrowed(context, builder, array_type, array._getvalue())


@unbox(BundleType)
def _take(kind: BundleType, bundle: Any, c: Any) -> Any:
    number = c.pyapi.object_getattr_string(bundle, "_address")
    address = c.pyapi.long_as_ulonglong(number)
    c.pyapi.decref(number)
    pointer = c.builder.inttoptr(address, c.context.get_value_type(kind))
    return NativeValue(pointer, is_error=c.pyapi.c_api_error())
