"""The pickles inside torch files, read by an interpreter that cannot execute anything.

It knows only the opcodes of protocol 2 that a state dict is made of, and no Python object
is ever looked up by name: an allowed global becomes an inert marker, any other is refused.
The standard library's Unpickler is not used even with find_class overridden, because some
of its opcodes allocate whatever size a file claims.
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import Any, NoReturn

from truncated_weights.bridge.errors import CheckpointError


@dataclasses.dataclass(frozen=True)
class Global:
    """The name of something torch would import; nothing is imported here."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers kept elsewhere in the file: type name, key and length."""

    kind: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ORDERED_DICT = Global("collections", "OrderedDict")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
STORAGES = frozenset(
    Global("torch", f"{kind}Storage")
    for kind in ("Half", "Float", "BFloat16", "Byte", "Bool", "Long", "Int", "Double")
)
ALLOWED = STORAGES | {ORDERED_DICT, REBUILD}
_MOST_DIMENSIONS = 8


class _Mark:
    """Where a tuple, list or dict began on the stack."""


def _naturals(value: Any) -> bool:
    return (
        type(value) is tuple
        and len(value) <= _MOST_DIMENSIONS
        and all(type(item) is int and 0 <= item < 2**62 for item in value)
    )


def _rebuild(arguments: tuple[Any, ...]) -> Tensor:
    """_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
    if len(arguments) != 6:
        raise CheckpointError(f"_rebuild_tensor_v2 with {len(arguments)} arguments, expected 6")
    storage, offset, shape, strides, requires_grad, hooks = arguments
    sound = (
        isinstance(storage, Storage)
        and _naturals((offset,))
        and _naturals(shape)
        and _naturals(strides)
        and len(shape) == len(strides)
        and type(requires_grad) is bool
        and hooks == {}
    )
    if not sound:
        raise CheckpointError("_rebuild_tensor_v2 with arguments of the wrong kind")
    return Tensor(storage, offset, shape, strides)


def storage_of(identifier: Any, lengths: tuple[int, ...]) -> Storage:
    """The storage a persistent id names; CheckpointError if it is anything else.

    The id is ('storage', type, key, device, count), with a sixth item, the view, in legacy
    files; lengths are the tuple lengths allowed. The device is not used.
    """
    if type(identifier) is not tuple or len(identifier) not in lengths:
        raise CheckpointError("a persistent id that is not a storage")
    tag, kind, key, device, size = identifier[:5]
    sound = tag == "storage" and type(key) is str and type(device) is str and _naturals((size,))
    if not sound or not isinstance(kind, Global) or kind not in STORAGES:
        raise CheckpointError("a persistent id that is not a storage of a known type")
    if identifier[5:] not in ((), (None,)):
        raise CheckpointError(f"storage {key[:80]!r} is a view of another, which is not supported")
    return Storage(kind.name, key, size)


class _Machine:
    """The stack, the memo and one method per opcode."""

    def __init__(self, data: bytes, position: int, resolve: Callable[[Any], Storage]) -> None:
        self.data, self.position, self.resolve = data, position, resolve
        self.stack: list[Any] = []
        self.memo: list[Any] = []

    def fail(self, what: str) -> NoReturn:
        raise CheckpointError(f"pickle at byte {self.position}: {what}")

    def take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            self.fail("ends too early")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            self.fail("a name without end")
        text = self.take(end + 1 - self.position)[:-1]
        return text.decode("ascii", "backslashreplace")

    def pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            self.fail("takes from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for depth in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[depth], _Mark):
                items = self.stack[depth + 1 :]
                del self.stack[depth:]
                return items
        self.fail("a group without beginning")

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            self.fail(f"expected a {kind.__name__} on the stack")
        return self.stack[-1]

    def pops(self, size: int) -> tuple[Any, ...]:
        return tuple(self.pop() for _ in range(size))[::-1]

    def remember(self, index: int) -> None:
        # Every pickler counts them up; numbers of a file's choice could be made to collide.
        if index > len(self.memo):
            self.fail(f"stores memo {index} after {len(self.memo)} others")
        value = self.pop()
        self.memo[index : index + 1] = [value]
        self.stack.append(value)

    def recall(self, index: int) -> None:
        if index >= len(self.memo):
            self.fail(f"recalls memo {index}, which was never stored")
        self.stack.append(self.memo[index])

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            self.fail("a dict with a key but no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Strings alone: integers can be chosen so that all of them collide.
            if type(key) is not str:
                self.fail("a dict key that is not a string")
            if key in target:
                self.fail(f"the key {str(key)[:200]!r} occurs twice")
            target[key] = value

    def find_global(self) -> None:
        found = Global(self.line(), self.line())
        if found not in ALLOWED:
            self.fail(f"names {found.module}.{found.name}, which is not allowed; nothing was run")
        self.stack.append(found)

    def reduce(self) -> None:
        function, arguments = self.pops(2)
        if type(arguments) is not tuple:
            self.fail("a call whose arguments are not a tuple")
        if function == ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif function == REBUILD:
            self.stack.append(_rebuild(arguments))
        else:
            self.fail("calls something other than OrderedDict() or _rebuild_tensor_v2")

    def build(self) -> None:
        # A state dict carries its format's version numbers as an attribute; not needed.
        if type(self.pop()) is not dict:
            self.fail("sets a state that is not a dict")
        self.top(dict)

    def text(self, size: int) -> None:
        try:
            self.stack.append(self.take(size).decode("utf-8"))
        except UnicodeDecodeError:
            self.fail("a string that is not UTF-8")

    def run(self) -> Any:
        if self.take(2) != b"\x80\x02":
            self.position -= 2
            self.fail("expected pickle protocol 2")
        push = self.stack.append
        actions: dict[bytes, Callable[[], Any]] = {
            b"}": lambda: push({}),
            b"]": lambda: push([]),
            b")": lambda: push(()),
            b"(": lambda: push(_Mark()),
            b"N": lambda: push(None),
            b"\x88": lambda: push(True),
            b"\x89": lambda: push(False),
            b"K": lambda: push(self.number("<B")),
            b"M": lambda: push(self.number("<H")),
            b"J": lambda: push(self.number("<i")),
            b"G": lambda: push(self.number(">d")),
            b"\x8a": lambda: push(
                int.from_bytes(self.take(self.number("<B")), "little", signed=True)
            ),
            b"X": lambda: self.text(self.number("<I")),
            b"q": lambda: self.remember(self.number("<B")),
            b"r": lambda: self.remember(self.number("<I")),
            b"h": lambda: self.recall(self.number("<B")),
            b"j": lambda: self.recall(self.number("<I")),
            b"\x85": lambda: push(self.pops(1)),
            b"\x86": lambda: push(self.pops(2)),
            b"\x87": lambda: push(self.pops(3)),
            b"t": lambda: push(tuple(self.pop_to_mark())),
            b"s": lambda: self.set_items(list(self.pops(2))),
            b"u": lambda: self.set_items(self.pop_to_mark()),
            b"a": lambda: self.top_list_extend([self.pop()]),
            b"e": lambda: self.top_list_extend(self.pop_to_mark()),
            b"c": self.find_global,
            b"R": self.reduce,
            b"b": self.build,
            b"Q": lambda: push(self.resolve(self.pop())),
        }
        while (opcode := self.take(1)) != b".":
            action = actions.get(opcode)
            if action is None:
                self.fail(f"opcode {opcode!r} is not allowed")
            action()
        result = self.pop()
        if self.stack:
            self.fail("leaves something on its stack")
        return result

    def top_list_extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)


def read(
    data: bytes, position: int, resolve: Callable[[Any], Storage] | None = None
) -> tuple[Any, int]:
    """(value, position after it) of the pickle that starts at position in data.

    The value is made of dict, list, tuple, str, int, float, bool, None, Global, Storage and
    Tensor. resolve turns a persistent id into a Storage; without it they are refused.
    Raises CheckpointError for everything else, having executed nothing.
    """
    machine = _Machine(data, position, resolve or _refuse)
    return machine.run(), machine.position


def _refuse(_: Any) -> Storage:
    raise CheckpointError("a persistent id where none is expected")
