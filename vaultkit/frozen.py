"""Values that nobody can change, at any depth: all threads share what the cache hands out.

They are dictionaries and lists to everybody who reads them, `json.dumps` among them. Copies, by `dict(…)`, `copy`,
`deepcopy` or `pickle`, are ordinary ones.
"""

from __future__ import annotations

from typing import Any, NoReturn


def frozen(value: Any) -> Any:
    """`value`, as JSON has it, made read-only with all that is in it. Raises: RecursionError."""
    if isinstance(value, (FrozenDict, FrozenList)):
        return value
    if isinstance(value, dict):
        return FrozenDict({key: frozen(each) for key, each in value.items()})
    if isinstance(value, list):
        return FrozenList([frozen(each) for each in value])
    return value


def _refuse(self: object, *_: object, **__: object) -> NoReturn:
    raise TypeError("a secret is read-only, since all threads share it; change a copy: copy.deepcopy(secret.data)")


class FrozenDict(dict[str, Any]):
    """A dictionary that refuses to be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class FrozenList(list[Any]):
    """A list that refuses to be changed."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)
