"""What must not stand in the source: code from data, and names pasted into SQL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgqueue

SOURCE = Path(pgqueue.__file__).parent
TREES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}
# Each reads or runs what it is given as code.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "jsonpickle", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput"}
IMPORTERS = {"cli/load.py"}
"""Where a module is imported that the command line names."""

SQL = re.compile(
    r"\s*\(?(select|insert|update|delete|create|drop|alter|copy|listen|unlisten|notify|truncate|"
    r"grant|revoke|set|lock|vacuum|comment on|with|lateral|do)\b|.*\b(from|into|join) \"?$",
    re.IGNORECASE | re.DOTALL,
)
QUOTED = {"s", "self.quoted", "client.statements.quoted", "self._client.statements.quoted"}
"""A schema's name that checked_schema let through, in quotes."""
# What else stands in f-strings that begin as SQL does: constants, %s for parameters, and other such
# strings. A new one fails until somebody has read where its value comes from.
PASTED: dict[str, set[str]] = {
    "alerts/notices.py": {"quoted"},
    "bench/bare.py": {"self.job", "self.archive", "self._schema", "PAYLOAD", "count", "end",
                      "columns"},
    "bench/suite.py": {"SCHEMA", "retention"},
    "cli/queues.py": {"view"},
    "cli/schema.py": {"schema"},
    "demo/stage.py": {"of_schema"},
    # Its advice is printed, and not run; what it runs has constants.
    "doctor/cron.py": {"advice", "patient.quoted", "patient.role",
                       "patient.command('cron verify')"},
    "doctor/examination.py": {"schema.literal(examined.role)", "examined.quoted"},
    "doctor/patient.py": {"DEADLINE"},
    "doctor/schema.py": {"patient.quoted", "literal(patient.role)", "name"},
    "doctor/schedules.py": {"SAMPLE", "SAMPLE + 1"},
    "doctor/server.py": {"patient.role", "patient.database", "name", "span(least)"},
    "doctor/storage.py": {"patient.quoted", "name", "pid", "user or '...'", "ours"},
    "doctor/work.py": {"DUE", "DUE + 1", "READY", "CLAIMS", "10 * CLAIMS", "LANES", "_LANES"},
    "encryption.py": {"_MARK", "table", "condition"},
    "guarded.py": {"setting", "value", "call", "columns", "guard", "source"},
    "migrate.py": {"lock_timeout", "name", "value", "checked_schema(schema)", "migration.version",
                   "migration.name"},
    # Conditions are constants with %s for what is asked; columns and keys are constants.
    "operations/search.py": {"_ARCHIVED", "_JOB", "_READY", "_named(names)", "columns",
                             "found.text", "keys", "only", "self._lanes()", "source", "waits"},
    "operations/statements.py": {"EVERY_QUEUE", "_AUDIT", "_CLAIMED", "_MINUTE", "before", "calls",
                                 "only", "start", "where"},
    "schedules/statements.py": {"given", "where", "_OURS", "_COLUMNS"},
    # A script to be printed, too: values by literal(), the schema's name in quotes, and constants.
    "pg_cron/api.py": {"only", "self._quoted"},
    "pg_cron/health.py": {"LAST_REQUESTS"},
    "pg_cron/script.py": {"_KEPT", "condition", "literal(MISSING)", "literal(schema + '.')",
                          "more", "name", "ours(schema, database)", "poke", "put", "quoted",
                          "schema", "secret", "values"},
    "pg_cron/where.py": {"self.user", "wanted"},
    "why/statements.py": {"_HOLDERS", "HOLDERS"},
    "registry.py": {"_COLUMNS", "given"},
    "statements.py": {"function", "given", "pair", "gap", "columns", "where", "_SUMMARY_COLUMNS"},
    "testing/assertions.py": {"schema", "where"},
    "testing/inline.py": {"schema"},
    "transfer/dump.py": {"_WAITING", "lines.job_as_json('j')", "order", "place"},
    "transfer/others.py": {"flags"},
    "vitals.py": {"quoted"},
}  # fmt: skip
# Names in EXECUTE are of the catalog (regclass, regprocedure), constants, or quoted by %I.
DYNAMIC = {
    "access.sql": {"v_function"},
    "functions/_partitions.sql": {"v_class", "v_name", "v_from", "v_to", "v_old"},
    "functions/_why.sql": {"v_since", "v_until", "v_first"},
    "functions/grant_access.sql": {"v_grant", "grantee", "v_policy"},
    "functions/isolate_tenants.sql": {"v_table", "v_policy", "grantee", "tenant", "v_names",
                                      "v_mine"},
}  # fmt: skip


def _nodes(kind: type[ast.AST]) -> Iterator[tuple[str, Any]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield name, node


def _text(node: ast.AST) -> str:
    """The constant beginning of a string, f-string or sum of strings."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "" for v in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_no_module_that_runs_data_is_imported() -> None:
    """Payloads are JSON and nothing else."""
    imported = {
        (name, alias.name.partition(".")[0])
        for name, node in _nodes(ast.Import)
        for alias in node.names
    }
    imported |= {
        (name, (node.module or "").partition(".")[0]) for name, node in _nodes(ast.ImportFrom)
    }
    assert len(imported) > 100
    assert {(name, module) for name, module in imported if module in MODULES} == set()


def test_nothing_is_evaluated_and_no_shell_is_used() -> None:
    """Nor is a module imported by a name that comes from elsewhere than the command line."""
    calls = [(name, ast.unparse(node.func), node) for name, node in _nodes(ast.Call)]
    assert [(name, func) for name, func, _ in calls if func in CALLS] == []
    assert [
        (name, func) for name, func, node in calls
        if any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in node.keywords)
    ] == []  # fmt: skip
    importing = {
        name for name, func, node in calls
        if func in ("import_module", "importlib.import_module")
        and not isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert importing <= IMPORTERS


def test_names_in_sql_are_checked_ones() -> None:
    """Whatever an f-string that is SQL interpolates was read by somebody, and is listed above."""
    found: dict[str, set[str]] = {}
    seen = 0
    for name, node in _nodes(ast.JoinedStr):
        if SQL.match(_text(node)):
            seen += 1
            values = {
                ast.unparse(v.value) for v in node.values if isinstance(v, ast.FormattedValue)
            }
            found.setdefault(name, set()).update(values - QUOTED)
    assert seen > 40
    prose = {  # messages that begin like SQL
        "cli/queues.py": {"output.quantity(purged, 'job')", "jobs", "queue"},
        "cli/bench.py": {"plot.parent"},
        "demo/story.py": {"what", "place.client.schema", "place.seconds"},
        "testing/assertions.py": {"given"},
    }
    new = {
        name: left for name, values in found.items()
        if (left := values - PASTED.get(name, set()) - prose.get(name, set()))
    }  # fmt: skip
    assert new == {}


def test_sql_is_composed_by_the_driver_only() -> None:
    """No str.format, % or + on strings that are SQL: psycopg.sql quotes, these do not."""
    formatted = [
        (name, node.lineno) for name, node in _nodes(ast.Call)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format"
        and SQL.match(_text(node.func.value))
    ]  # fmt: skip
    added = [
        (name, node.lineno) for name, node in _nodes(ast.BinOp)
        if isinstance(node.op, (ast.Add, ast.Mod)) and SQL.match(_text(node.left))
        and not name.startswith("doctor/")  # advice
    ]  # fmt: skip
    assert (formatted, added) == ([], [])


def test_dynamic_sql_quotes_what_it_is_given() -> None:
    """There %s stands for objects of the catalog and constants, never for an argument."""
    arguments = {"grantee", "tenant"}
    found: dict[str, set[str]] = {}
    for path in sorted((SOURCE / "sql").rglob("*.sql")):
        text = re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
        strings = re.findall(r"'(?:[^']|'')*'", text)
        places = iter(range(len(strings)))
        text = re.sub(r"'(?:[^']|'')*'", lambda _: f"<{next(places)}>", text)  # noqa: B023
        for call in re.findall(
            r"\bexecute ((?:pg_catalog|format|<).*?)(?:;| using | into )", text, re.DOTALL
        ):
            names = set(re.findall(r"\b[a-z_]+\b", call)) - {"pg_catalog", "format"}
            found.setdefault(path.relative_to(SOURCE / "sql").as_posix(), set()).update(names)
            template = "".join(strings[int(place)] for place in re.findall(r"<(\d+)>", call))
            kinds = re.findall(r"%([sIL])", template)
            for kind, name in zip(kinds, re.findall(r", ([a-z_]+)", call), strict=False):
                assert name not in arguments or kind in "IL", call
    assert found == DYNAMIC
