"""Objects that are rebuilt from text from outside (CWE-502)."""

from __future__ import annotations

import ast

from astraios.markers._static.python_flow import Flow, analysed
from astraios.markers._static.python_policy import Policy
from astraios.markers._static.python_values import NOTHING, Value, words
from astraios.records import Finding


def serialised(code: str) -> list[Finding]:
    """CWE-502: a format that can make any object is read from outside.

    Catches `yaml.load` without a safe loader (the full loader included: its authors advise against
    it for such texts, and upstream reports it), `unsafe_load`, `full_load`, pickle and its kin,
    `marshal`, `jsonpickle`, `shelve`, ruamel's unsafe kind, `eval` and `exec` of the text, which
    upstream leaves to another query. Follows texts through base64, decoding and streams.
    `safe_load`, the loaders `SafeLoader`, `CSafeLoader` and `BaseLoader`, JSON and `literal_eval`
    are safe, and so is anything that was not read from outside.

    Misses loaders that are built in the program on top of an unsafe one, and safe readers of which
    the result is trusted too far.
    """
    return analysed(code, _Serialised(), "CWE-502")


_SAFE_LOADERS = ("SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader")
_ANY_OBJECT = words("""
    pickle.loads() pickle.load() _pickle.loads() cPickle.loads() cPickle.load() dill.loads()
    dill.load() cloudpickle.loads() cloudpickle.load() marshal.loads() marshal.load()
    jsonpickle.decode() jsonpickle.loads() joblib.load() pandas.read_pickle() shelve.open()
    pickle.Unpickler() dill.Unpickler() eval() exec() torch.load()
    yaml.unsafe_load() yaml.unsafe_load_all() yaml.full_load() yaml.full_load_all()
    """)
_LOADS = frozenset({"yaml.load()", "yaml.load_all()"})
_CLASSES = frozenset(
    f"yaml.{name}()" for name in ("Loader", "FullLoader", "UnsafeLoader", "CLoader")
)


class _Serialised(Policy):
    labels = frozenset({"object"})

    def call(self, flow: Flow, call: ast.Call, found: Value, base: Value) -> Value | None:
        name = found.name
        given = [
            *found.args[:1],
            *(found.named[key] for key in ("stream", "s", "str", "file") if key in found.named),
        ]
        bad = name in _ANY_OBJECT or name in _CLASSES
        if name in _LOADS or name in ("ruamel.yaml.load()", "ruamel.yaml.load_all()"):
            loader = found.named.get("Loader", found.args[1] if len(found.args) > 1 else NOTHING)
            bad = self._is_unsafe(flow, loader)
        if base.name.endswith("YAML()") and name.endswith((".load()", ".load_all()")):
            kind = base.named.get("typ", base.args[0] if base.args else NOTHING).const
            bad = kind in ("unsafe", "full")
        if bad and any(flow.harms(flow.deep(one)) for one in given):
            flow.report(call, "unsafe-deserialisation", "text from outside can make any object")
            return Value(name=name)
        if name.endswith("YAML()"):
            return found
        return None

    @staticmethod
    def _is_unsafe(flow: Flow, loader: Value) -> bool:
        name = loader.name.rpartition(".")[2]
        if name in _SAFE_LOADERS:
            return False
        for node in ast.walk(flow.tree):
            if isinstance(node, ast.ClassDef) and node.name == name:
                bases = [ast.unparse(one).rpartition(".")[2] for one in node.bases]
                return not any(one in _SAFE_LOADERS for one in bases)
        return True
