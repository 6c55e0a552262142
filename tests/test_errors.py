"""The tree of errors, and the one line that each of them is."""

import inspect
import re

import pytest

from calico_lab import errors
from calico_lab.errors import CalicoLabError, ParseError, ScenarioError

_CLASSES = dict(inspect.getmembers(errors, lambda thing: inspect.isclass(thing) and issubclass(thing, Exception)))


def _drawn() -> dict[str, tuple[int, int]]:
    """Depth and exit code of each class in the drawing; where it gives none, the parent's holds."""
    depths, found = [1], {"CalicoLabError": (0, CalicoLabError.exit_code)}
    for line in inspect.getdoc(errors).splitlines():
        if branch := re.fullmatch(r" {4}(?P<indent>[│ ]*)[├└]── (?P<name>\w+) *(?:\((?P<code>\d)\))? .*", line):
            depth = len(branch["indent"]) // 4 + 1
            del depths[depth:]
            depths.append(int(branch["code"]) if branch["code"] else depths[-1])
            found[branch["name"]] = (depth, depths[-1])
    return found


def test_the_tree_drawn_at_the_head_has_every_class() -> None:
    assert sorted(_drawn()) == sorted(_CLASSES)


@pytest.mark.parametrize("name", sorted(_CLASSES))
def test_a_class_stands_where_the_tree_draws_it_with_its_exit_code(name: str) -> None:
    depth = len(_CLASSES[name].__mro__) - len(CalicoLabError.__mro__)
    assert (depth, _CLASSES[name].exit_code) == _drawn()[name]


def test_children_are_drawn_below_their_parent() -> None:
    above: dict[int, str] = {}
    for name, (depth, _) in _drawn().items():
        above[depth] = name
        if depth:
            assert _CLASSES[name].__base__ is _CLASSES[above[depth - 1]]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        pytest.param(CalicoLabError("it broke"), "it broke", id="what"),
        pytest.param(CalicoLabError("it broke", where="node w-1"), "node w-1: it broke", id="where"),
        pytest.param(CalicoLabError("it broke", seen="two  words"), "it broke; seen: two words", id="seen-text"),
        pytest.param(CalicoLabError("it broke", seen=[1, "a"]), "it broke; seen: [1, 'a']", id="seen-value"),
        pytest.param(CalicoLabError("it broke", seen=0), "it broke; seen: 0", id="seen-zero"),
        pytest.param(CalicoLabError("it broke", todo="mend it"), "it broke; mend it", id="todo"),
        pytest.param(
            ScenarioError("bad\nname", where="x.yaml: name", seen="a\n b", todo="allowed:\n c"),
            "x.yaml: name: bad name; seen: a b; allowed: c",
            id="everything-on-one-line",
        ),
        pytest.param(
            ParseError("unknown word", line=3, text="a b c"), "line 3: unknown word; seen: a b c", id="parser-alone"
        ),
        pytest.param(
            ParseError("unknown word", line=3, text="a b c").at("w-1", "ip-link"),
            "w-1, ip-link, line 3: unknown word; seen: a b c",
            id="parser-with-its-place",
        ),
    ],
)
def test_a_message_says_where_what_seen_and_what_to_do(error: CalicoLabError, line: str) -> None:
    assert str(error) == line
