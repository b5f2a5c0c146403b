"""What tests of the structure read in the files of the package."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FILES = sorted(path for path in SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too, but for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
    return found


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


def top_level_imports(path: Path) -> set[str]:
    """The files of prunelit that a file imports at its top level, also for type checking alone."""
    names = {name_of(file) for file in FILES}
    found: set[str] = set()
    top = ast.parse(path.read_text()).body
    for node in [*top, *(inner for block in top if isinstance(block, ast.If) for inner in block.body)]:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & names
            found |= inside or {str(node.module)}
    return (found & names) - {name_of(path)}


def names_when(node: ast.AST) -> bool:
    """Whether an expression is a variable, an attribute or a key of the name ``when``."""
    keys = [*getattr(node, "args", [])[:1], getattr(node, "slice", None)]
    return (
        getattr(node, "id", None) == "when"
        or getattr(node, "attr", None) == "when"
        or any(isinstance(key, ast.Constant) and key.value == "when" for key in keys)
    )


MUTABLE = (
    *("list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter", "count", "SimpleNamespace"),
    *("WeakKeyDictionary", "WeakValueDictionary", "WeakSet", "local", "ContextVar"),
)
CHANGES = ("append", "add", "clear", "extend", "insert", "pop", "remove", "discard", "setdefault", "update")


def constants(tree: ast.Module) -> dict[str, str]:
    """The names that a module assigns a mutable container at its top level, and what constructs it."""
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            made = node.value.func if isinstance(node.value, ast.Call) else None
            name = getattr(made, "id", getattr(made, "attr", None))
            if isinstance(node.value, displays) or name in MUTABLE:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id: str(name) for target in targets if isinstance(target, ast.Name)}
    return found


def changed_names(tree: ast.Module) -> set[str]:
    """The variables whose contents the functions of a module change."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in CHANGES:
            found.add(getattr(node.func.value, "id", ""))  # type: ignore[attr-defined]
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        found |= {getattr(t.value, "id", "") for t in targets if isinstance(t, ast.Subscript)}
    return found
