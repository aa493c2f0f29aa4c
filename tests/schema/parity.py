"""GPROXY's tables as SQL, written down from what GPROXY has and not from our models.

A column is ``name type`` and marks: ``?`` nullable, ``U`` unique, ``>table`` a foreign key that
cascades, ``>>table`` one that is set to NULL. Types: s plain string, t text, j JSON, i int, l
bigint, b bool, d double, w time, y bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gproxy_storage.schema.definitions import Column, Definition, ForeignKey, IndexDefinition

_TS = "created_at w, updated_at w"

TABLES: Mapping[str, str] = {
    "global_settings": "host s, port i, proxy s?, spoof_emulation s?, dsn s, data_dir s, "
    "enable_usage b, enable_upstream_log b, enable_upstream_log_body b, enable_downstream_log b, "
    "enable_downstream_log_body b, update_channel s?, updated_at w",
    "providers": f"name s U, channel s, label t?, settings_json j, routing_json j, {_TS}",
    "credentials": f"provider_id l >providers, name s?, kind s, secret_json j, enabled b, {_TS}",
    "credential_statuses": "credential_id l >credentials, channel s, health_kind s, "
    "health_json j?, checked_at w?, last_error s?, updated_at w",
    "users": f"name s U, password s?, enabled b, is_admin b, {_TS}",
    "user_keys": "user_id l >users, api_key_ciphertext s, api_key_digest s U, label s?, "
    f"enabled b, {_TS}",
    "models": "provider_id l >providers, model_id s, display_name s?, enabled b, "
    f"pricing_json t?, {_TS}",
    "user_model_permissions": "user_id l >users, provider_id l? >providers, model_pattern s, "
    "created_at w",
    "user_file_permissions": "user_id l >users, provider_id l >providers, created_at w",
    "user_rate_limits": "user_id l >users, model_pattern s, rpm i?, rpd i?, total_tokens l?, "
    f"{_TS}",
    "user_quotas": "user_id l U >users, quota d, cost_used d, updated_at w",
    "usages": "downstream_trace_id l?, at w, provider_id l? >>providers, "
    "credential_id l? >>credentials, user_id l? >>users, user_key_id l? >>user_keys, operation s, "
    "protocol s, model s?, input_tokens l?, output_tokens l?, cache_read_input_tokens l?, "
    "cache_creation_input_tokens l?, cache_creation_input_tokens_5min l?, "
    "cache_creation_input_tokens_1h l?, cost d =0, created_at w",
    "upstream_requests": "downstream_trace_id l?, at w, internal b, provider_id l? >>providers, "
    "credential_id l? >>credentials, request_method s, request_headers_json j, request_url s?, "
    "request_body y?, response_status i?, response_headers_json j, response_body y?, "
    "initial_latency_ms l?, total_latency_ms l?, created_at w",
    "downstream_requests": "at w, internal b, user_id l? >>users, user_key_id l? >>user_keys, "
    "request_method s, request_headers_json j, request_path s, request_query s?, request_body y?, "
    "response_status i?, response_headers_json j, response_body y?, created_at w",
    "user_credential_files": "user_id l >users, user_key_id l >user_keys, "
    "provider_id l >providers, credential_id l >credentials, file_id s, active b, "
    f"{_TS}, deleted_at w?",
    "claude_files": "provider_id l >providers, file_id s, file_created_at s, filename s, "
    f"mime_type s, size_bytes l, downloadable b?, raw_json j, {_TS}",
}

UNIQUE: Mapping[str, str] = {
    "credential_statuses": "credential_id, channel",
    "models": "provider_id, model_id",
    "user_model_permissions": "user_id, provider_id, model_pattern",
    "user_file_permissions": "user_id, provider_id",
    "user_rate_limits": "user_id, model_pattern",
    "user_credential_files": "user_id, provider_id, file_id",
    "claude_files": "provider_id, file_id",
}

INDEXES = (
    ("providers", "channel"),
    ("credentials", "provider_id"),
    ("user_keys", "user_id"),
    ("user_credential_files", "user_id, provider_id, active"),
    ("user_credential_files", "credential_id"),
    ("claude_files", "provider_id"),
    ("models", "provider_id"),
    ("user_model_permissions", "user_id"),
    ("user_file_permissions", "user_id"),
    ("user_rate_limits", "user_id"),
    ("usages", "at DESC, trace_id DESC"),
    ("upstream_requests", "at DESC, trace_id DESC"),
    ("downstream_requests", "at DESC, trace_id DESC"),
)


def has_column(table: str, name: str) -> bool:
    """Whether a table of GPROXY's has a column in GPROXY, too."""
    return name in (_key(table), *(text.split()[0] for text in TABLES[table].split(", ")))


def has_index(table: str, index: IndexDefinition) -> bool:
    """Whether GPROXY has an index over the same columns."""
    columns = ", ".join(name for name, _ in index.columns)
    if not index.unique:
        return (table, columns) in {(one, text.replace(" DESC", "")) for one, text in INDEXES}
    alone = {text.split()[0] for text in TABLES.get(table, "").split(", ") if " U" in text}
    return columns in alone or columns == UNIQUE.get(table)


def _key(table: str) -> str:
    return "trace_id" if table in ("usages", "upstream_requests", "downstream_requests") else "id"


def ours(table: Definition) -> tuple[list[Column], list[ForeignKey], list[IndexDefinition]]:
    """The columns, foreign keys and indexes that we have in a table of GPROXY's, and it has not."""
    return (
        [column for column in table.columns if not has_column(table.name, column.name)],
        [key for key in table.foreign_keys if not has_column(table.name, key.column)],
        [index for index in table.indexes if not has_index(table.name, index)],
    )


@dataclass(frozen=True)
class Style:
    """How somebody writes the tables down.

    Attributes:
        types: the letter of each type -> its SQL; ``id`` for the primary key's whole definition.
        inline_unique: UNIQUE inside CREATE TABLE, instead of indexes of their own.
        reversed_indexes: the indexes that descend ascend instead, all their columns.
    """

    types: Mapping[str, str]
    inline_unique: bool = False
    reversed_indexes: bool = False


def statements(style: Style) -> Iterator[str]:
    """The SQL that makes all tables with their keys and indexes, parents first."""
    for table, text in TABLES.items():
        parts = [f"{_key(table)} {style.types['id']}"]
        constraints, together = [], [UNIQUE[table]] if table in UNIQUE else []
        for column in text.split(", "):
            name, kind, *marks = column.split()
            sql = f"{name} {style.types[kind[0]]}" + (
                " NULL" if kind.endswith("?") else " NOT NULL"
            )
            for mark in marks:
                if mark.startswith(">"):
                    action = "SET NULL" if mark.startswith(">>") else "CASCADE"
                    constraints.append(
                        f"FOREIGN KEY ({name}) REFERENCES {mark.strip('>')} (id) ON DELETE {action}"
                    )
                elif mark == "=0":
                    sql += " DEFAULT 0"
                elif style.inline_unique:
                    sql += " UNIQUE"
                else:
                    together.append(name)
            parts.append(sql)
        if style.inline_unique:
            constraints += [f"UNIQUE ({columns})" for columns in together]
        yield f"CREATE TABLE {table} ({', '.join(parts + constraints)})"
        if not style.inline_unique:
            for number, columns in enumerate(together):
                yield f"CREATE UNIQUE INDEX unique_{table}_{number} ON {table} ({columns})"
    for number, (table, columns) in enumerate(INDEXES):
        directed = columns.replace(" DESC", "") if style.reversed_indexes else columns
        yield f"CREATE INDEX further_{number} ON {table} ({directed})"


SEAORM: dict[str, Mapping[str, str]] = {
    "sqlite": {
        "id": "integer NOT NULL PRIMARY KEY AUTOINCREMENT",
        "s": "varchar",
        "t": "text",
        "j": "json_text",
        "i": "integer",
        "l": "bigint",
        "b": "boolean",
        "d": "double",
        "w": "timestamp_with_timezone_text",
        "y": "blob",
    },
    "postgres": {
        "id": "bigserial NOT NULL PRIMARY KEY",
        "s": "varchar",
        "t": "text",
        "j": "json",
        "i": "integer",
        "l": "bigint",
        "b": "bool",
        "d": "double precision",
        "w": "timestamp with time zone",
        "y": "bytea",
    },
    "mysql": {
        "id": "bigint NOT NULL AUTO_INCREMENT PRIMARY KEY",
        "s": "varchar(255)",
        "t": "text",
        "j": "json",
        "i": "int",
        "l": "bigint",
        "b": "bool",
        "d": "double",
        "w": "timestamp",
        "y": "blob",
    },
}

BY_HAND: dict[str, Mapping[str, str]] = {
    "sqlite": {
        "id": "INTEGER PRIMARY KEY",
        "s": "TEXT",
        "t": "CLOB",
        "j": "TEXT",
        "i": "INT",
        "l": "INTEGER",
        "b": "INTEGER",
        "d": "REAL",
        "w": "TEXT",
        "y": "BLOB",
    },
    "postgres": {
        "id": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "s": "VARCHAR(200)",
        "t": "TEXT",
        "j": "JSONB",
        "i": "SMALLINT",
        "l": "BIGINT",
        "b": "BOOLEAN",
        "d": "REAL",
        "w": "TIMESTAMPTZ(3)",
        "y": "BYTEA",
    },
    "mysql": {
        "id": "BIGINT AUTO_INCREMENT PRIMARY KEY",
        "s": "VARCHAR(200)",
        "t": "MEDIUMTEXT",
        "j": "JSON",
        "i": "MEDIUMINT",
        "l": "BIGINT",
        "b": "TINYINT(1)",
        "d": "FLOAT",
        "w": "DATETIME(3)",
        "y": "MEDIUMBLOB",
    },
}
# The statements are the same for both.
SEAORM["mariadb"] = SEAORM["mysql"]
BY_HAND["mariadb"] = BY_HAND["mysql"]
