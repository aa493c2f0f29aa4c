"""The tables, declared once for all backends; no behaviour.

Names and formats are GPROXY v1's, so that both programs can work on one database. A foreign key
does not imply an index; every index but that of the natural key is declared below its table.
"""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar, overload

import peewee
from peewee import SQL

from .encrypted_fields import EncryptedField, EncryptedJSONField, EncryptedTextField, SealedRow
from .fields import ForeignKeyField, HeadersField, JSONField, MoneyField
from .money import MAX_COST
from .naming import give_repr

if TYPE_CHECKING:
    # The base classes of ours, whose stubs declare the type of a row's value.
    from peewee import (
        BigAutoField,
        BigIntegerField,
        BooleanField,
        CharField,
        Field,
        IntegerField,
        TextField,
    )
    from peewee import BlobField as BodyField
    from peewee import DateTimeField as UtcDateTimeField
else:
    from .fields import (
        BigAutoField,
        BigIntegerField,
        BodyField,
        BooleanField,
        CharField,
        IntegerField,
        TextField,
        UtcDateTimeField,
    )

T = TypeVar("T", bound="Table")


class Table(peewee.Model):
    """The base of all tables, bound to a database by `Storage`.

    Attributes:
        table_name: its name in the database.
        natural_key: the fields that identify a row in addition to its id, for upserts and a unique
            index; empty if only the id does.
        is_log: whether rows remain when a row that they refer to is deleted, with NULL for it.
    """

    table_name: ClassVar[str] = ""
    natural_key: ClassVar[tuple[str, ...]] = ()
    is_log: ClassVar[bool] = False

    class Meta:
        table_function = attrgetter("table_name")
        only_save_dirty = True  # an UPDATE writes only changed columns


@overload
def _foreign_key(
    target: type[T], on_delete: str, *, null: Literal[True]
) -> peewee.ForeignKeyField[T | None]: ...
@overload
def _foreign_key(target: type[T], on_delete: str) -> peewee.ForeignKeyField[T]: ...
def _foreign_key(target: Any, on_delete: str, **kwargs: Any) -> peewee.ForeignKeyField[Any]:
    return ForeignKeyField(target, on_delete=on_delete, backref="+", index=False, **kwargs)


class Index(NamedTuple):
    """An index of a table.

    Attributes:
        name: unique in the database; at most 63 bytes, PostgreSQL's limit.
        columns: column names in order, each with whether it is descending.
    """

    name: str
    columns: tuple[tuple[str, bool], ...]
    unique: bool


INDEXES: dict[type[Table], list[Index]] = {}
"""The indexes of each table, without that of the primary key."""


def _index(model: type[Table], *columns: Any, unique: bool) -> Index:
    described = tuple(
        (column.node.column_name, True)
        if isinstance(column, peewee.Ordering)
        else (column.column_name, False)
        for column in columns
    )
    name = "_".join(
        ("uq" if unique else "ix", model._meta.table_name, *(column for column, _ in described))
    )
    return Index(name, described, unique)


def _add_index(model: type[Table], *columns: Any, unique: bool = False) -> None:
    """Declare an index, besides that of the natural key, over fields or ``field.desc()``."""
    INDEXES.setdefault(model, []).append(_index(model, *columns, unique=unique))


class GlobalSettings(Table):
    """The single row of settings, with id 1."""

    table_name = "global_settings"

    id = BigAutoField()
    host = TextField()
    port = IntegerField()
    proxy = TextField(null=True)
    spoof_emulation = TextField(null=True)
    dsn = TextField()
    data_dir = TextField()
    enable_usage = BooleanField()
    enable_upstream_log = BooleanField()
    enable_upstream_log_body = BooleanField()
    enable_downstream_log = BooleanField()
    enable_downstream_log_body = BooleanField()
    update_channel = TextField(null=True)
    updated_at = UtcDateTimeField()


class Provider(Table):
    """An upstream provider of LLMs."""

    table_name = "providers"
    natural_key = ("name",)

    id = BigAutoField()
    name = CharField()
    channel = CharField()
    label = TextField(null=True)
    settings_json: Field[Any] = JSONField()
    routing_json: Field[Any] = JSONField()
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


_add_index(Provider, Provider.channel)


class Credential(SealedRow, Table):
    """A credential of a provider."""

    table_name = "credentials"

    id = BigAutoField()
    provider_id: int
    provider = _foreign_key(Provider, "CASCADE")
    name = TextField(null=True)
    kind = TextField()
    secret_json: Field[Any] = EncryptedJSONField("credentials", "secret_json")
    enabled = BooleanField()
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


_add_index(Credential, Credential.provider)


class CredentialStatus(Table):
    """The health of a credential on a channel."""

    table_name = "credential_statuses"
    natural_key = ("credential", "channel")

    id = BigAutoField()
    credential_id: int
    credential = _foreign_key(Credential, "CASCADE")
    channel = CharField()
    health_kind = TextField()
    health_json: Field[Any] = JSONField(null=True)
    checked_at = UtcDateTimeField(null=True)
    last_error = TextField(null=True)
    updated_at = UtcDateTimeField()


class User(SealedRow, Table):
    """A user of the proxy; `password` is an Argon2id hash, itself encrypted."""

    table_name = "users"
    natural_key = ("name",)

    id = BigAutoField()
    name = CharField()
    password: Field[str | None] = EncryptedTextField("users", "password", null=True)
    enabled = BooleanField()
    is_admin = BooleanField()
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


class UserKey(SealedRow, Table):
    """An API key of a user; looked up by its digest, which saving the key sets."""

    table_name = "user_keys"

    id = BigAutoField()
    user_id: int
    user = _foreign_key(User, "CASCADE")
    api_key_ciphertext: Field[str] = EncryptedTextField(
        "user_keys", "api_key_ciphertext", digest="api_key_digest"
    )
    api_key_digest = CharField()
    label = TextField(null=True)
    enabled = BooleanField()
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


_add_index(UserKey, UserKey.api_key_digest, unique=True)
_add_index(UserKey, UserKey.user)


class LLMModel(Table):
    """A model that a provider offers."""

    table_name = "models"
    natural_key = ("provider", "model_id")

    id = BigAutoField()
    provider_id: int
    provider = _foreign_key(Provider, "CASCADE")
    model_id = CharField()
    display_name = TextField(null=True)
    enabled = BooleanField()
    pricing_json = TextField(null=True)
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


_add_index(LLMModel, LLMModel.provider)


class UserModelPermission(Table):
    """A user may use the models that the pattern matches; provider NULL = every provider."""

    table_name = "user_model_permissions"
    # NULLs are distinct in its index: permissions are unique by a lock, see
    # repositories/permission_rows.py. With another unique index GPROXY does not start, or
    # drops it.
    natural_key = ("user", "provider", "model_pattern")

    id = BigAutoField()
    user_id: int
    user = _foreign_key(User, "CASCADE")
    provider_id: int | None
    provider = _foreign_key(Provider, "CASCADE", null=True)
    model_pattern = CharField()
    created_at = UtcDateTimeField()


_add_index(UserModelPermission, UserModelPermission.user)


class UserFilePermission(Table):
    """A user may use the files of a provider."""

    table_name = "user_file_permissions"
    natural_key = ("user", "provider")

    id = BigAutoField()
    user_id: int
    user = _foreign_key(User, "CASCADE")
    provider_id: int
    provider = _foreign_key(Provider, "CASCADE")
    created_at = UtcDateTimeField()


_add_index(UserFilePermission, UserFilePermission.user)


class UserRateLimit(Table):
    """Limits of a user on the models that the pattern matches; NULL = no limit."""

    table_name = "user_rate_limits"
    natural_key = ("user", "model_pattern")

    id = BigAutoField()
    user_id: int
    user = _foreign_key(User, "CASCADE")
    model_pattern = CharField()
    rpm = IntegerField(null=True)
    rpd = IntegerField(null=True)
    total_tokens = BigIntegerField(null=True)
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


_add_index(UserRateLimit, UserRateLimit.user)


class UserQuota(Table):
    """The limit on a user's costs, and the costs so far; a quota <= 0 is unlimited."""

    table_name = "user_quotas"
    natural_key = ("user",)

    id = BigAutoField()
    user_id: int
    user = _foreign_key(User, "CASCADE")
    quota: Field[Decimal] = MoneyField()
    cost_used: Field[Decimal] = MoneyField()
    updated_at = UtcDateTimeField()


class Usage(Table):
    """The tokens and cost of one call."""

    table_name = "usages"
    is_log = True

    trace_id = BigAutoField()
    downstream_trace_id = BigIntegerField(null=True)
    at = UtcDateTimeField()
    provider_id: int | None
    provider = _foreign_key(Provider, "SET NULL", null=True)
    credential_id: int | None
    credential = _foreign_key(Credential, "SET NULL", null=True)
    user_id: int | None
    user = _foreign_key(User, "SET NULL", null=True)
    user_key_id: int | None
    user_key = _foreign_key(UserKey, "SET NULL", null=True)
    operation = TextField(default="generate")
    protocol = TextField(default="openai")
    model = TextField(null=True)
    input_tokens = BigIntegerField(null=True)
    output_tokens = BigIntegerField(null=True)
    cache_read_input_tokens = BigIntegerField(null=True)
    cache_creation_input_tokens = BigIntegerField(null=True)
    cache_creation_input_tokens_5min = BigIntegerField(null=True)
    cache_creation_input_tokens_1h = BigIntegerField(null=True)
    cost: Field[Decimal] = MoneyField(
        most=MAX_COST, default=Decimal(0), constraints=[SQL("DEFAULT 0")]
    )
    created_at = UtcDateTimeField()


_add_index(Usage, Usage.at.desc(), Usage.trace_id.desc())
# By user and by key, with the time. Without them, a day of one user would read that day of all
# users, and the usages of a rarely used key every row (of a million: 0.4 to 1.4 s instead of
# 0.3 ms), as would deleting a user or key, while SQLite blocks other writers. The two make inserts
# of 1,000 rows take 2.1 times as long on SQLite (the first alone 1.7), 1.4 on PostgreSQL, 1.0 on
# MySQL, which has an index of every foreign key anyway. With indexes on provider and credential it
# would be 3.0 on SQLite: there are few of either, so a page is found soon, and deletions are rare.
_add_index(Usage, Usage.user, Usage.at)
_add_index(Usage, Usage.user_key, Usage.at)


class UpstreamRequest(Table):
    """A request that the proxy sent to a provider."""

    table_name = "upstream_requests"
    is_log = True

    trace_id = BigAutoField()
    downstream_trace_id = BigIntegerField(null=True)
    at = UtcDateTimeField()
    internal = BooleanField(default=False)
    provider_id: int | None
    provider = _foreign_key(Provider, "SET NULL", null=True)
    credential_id: int | None
    credential = _foreign_key(Credential, "SET NULL", null=True)
    request_method = TextField()
    request_headers_json: Field[Any] = HeadersField(default=dict)
    request_url = TextField(null=True)
    request_body = BodyField(null=True)
    response_status = IntegerField(null=True)
    response_headers_json: Field[Any] = HeadersField(default=dict)
    response_body = BodyField(null=True)
    initial_latency_ms = BigIntegerField(null=True)
    total_latency_ms = BigIntegerField(null=True)
    created_at = UtcDateTimeField()


_add_index(UpstreamRequest, UpstreamRequest.at.desc(), UpstreamRequest.trace_id.desc())


class DownstreamRequest(Table):
    """A request that a user sent to the proxy; the caller gives the trace id."""

    table_name = "downstream_requests"
    is_log = True

    trace_id = BigAutoField()
    at = UtcDateTimeField()
    internal = BooleanField(default=False)
    user_id: int | None
    user = _foreign_key(User, "SET NULL", null=True)
    user_key_id: int | None
    user_key = _foreign_key(UserKey, "SET NULL", null=True)
    request_method = TextField()
    request_headers_json: Field[Any] = HeadersField(default=dict)
    request_path = TextField()
    request_query = TextField(null=True)
    request_body = BodyField(null=True)
    response_status = IntegerField(null=True)
    response_headers_json: Field[Any] = HeadersField(default=dict)
    response_body = BodyField(null=True)
    created_at = UtcDateTimeField()


_add_index(DownstreamRequest, DownstreamRequest.at.desc(), DownstreamRequest.trace_id.desc())


class UserCredentialFile(Table):
    """A file that a user uploaded through a credential."""

    table_name = "user_credential_files"
    natural_key = ("user", "provider", "file_id")

    id = BigAutoField()
    user_id: int
    user = _foreign_key(User, "CASCADE")
    user_key_id: int
    user_key = _foreign_key(UserKey, "CASCADE")
    provider_id: int
    provider = _foreign_key(Provider, "CASCADE")
    credential_id: int
    credential = _foreign_key(Credential, "CASCADE")
    file_id = CharField()
    active = BooleanField()
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()
    deleted_at = UtcDateTimeField(null=True)


_add_index(
    UserCredentialFile,
    UserCredentialFile.user,
    UserCredentialFile.provider,
    UserCredentialFile.active,
)
_add_index(UserCredentialFile, UserCredentialFile.credential)


class ClaudeFile(Table):
    """Anthropic's metadata of a file."""

    table_name = "claude_files"
    natural_key = ("provider", "file_id")

    id = BigAutoField()
    provider_id: int
    provider = _foreign_key(Provider, "CASCADE")
    file_id = CharField()
    file_created_at = TextField()
    filename = TextField()
    mime_type = TextField()
    size_bytes = BigIntegerField()
    downloadable = BooleanField(null=True)
    raw_json: Field[Any] = JSONField()
    created_at = UtcDateTimeField()
    updated_at = UtcDateTimeField()


_add_index(ClaudeFile, ClaudeFile.provider)


class StorageState(Table):
    """Facts about the database itself, stored by this package; GPROXY does not use it."""

    table_name = "storage_state"

    name = CharField(max_length=64, primary_key=True)
    value = TextField()
    updated_at = UtcDateTimeField()


class EncryptionKeys(Table):
    """The single row of the keyring, with id 1; see `keyring_manager.py`."""

    table_name = "encryption_keys"

    id = BigIntegerField(primary_key=True)
    generation = BigIntegerField(default=0, constraints=[SQL("DEFAULT 0")])
    kdf = TextField(null=True)
    sealed = TextField(null=True)
    decrypted = BooleanField(default=False, constraints=[SQL("DEFAULT FALSE")])
    updated_at = UtcDateTimeField()


class SinkWriter(Table):
    """The last stored batch of each sink, so that writing one again is a no-op."""

    table_name = "write_batches"

    writer = CharField(max_length=64, primary_key=True)
    seq = BigIntegerField()
    at = UtcDateTimeField()


TABLES: tuple[type[Table], ...] = tuple(Table.__subclasses__())
"""Every table that holds data, in order of declaration: parents before children."""


class Ledger(Table):
    """GPROXY's ledger: the migrations of its schema that were applied.

    Not in `TABLES`, thus below: sync creates and fills it, and nothing else here uses it.
    """

    table_name = "seaql_migrations"

    version = CharField(primary_key=True)
    applied_at = BigIntegerField()


LOG_MODELS = tuple(model for model in TABLES if model.is_log)
"""The logs, in the order in which a batch is written."""

for _model in TABLES:
    if _model.natural_key:
        _key = [_model._meta.fields[name] for name in _model.natural_key]
        INDEXES.setdefault(_model, []).insert(0, _index(_model, *_key, unique=True))

NAMES: frozenset[str] = frozenset(
    {index.name for indexes in INDEXES.values() for index in indexes}
    | {model._meta.table_name for model in TABLES}
    | {field.column_name for model in TABLES for field in model._meta.sorted_fields}
    | {key.constraint_name for model in TABLES for key in model._meta.refs}
)
"""The names of all tables, columns, indexes and constraints."""

INDEX_COLUMNS = {
    index.name: (model._meta.table_name, tuple(column for column, _ in index.columns))
    for model, indexes in INDEXES.items()
    for index in indexes
}
"""Name of each index -> its table and columns."""

GENERATED_IDS = {
    model._meta.table_name: key.column_name
    for model in TABLES
    if isinstance(key := model._meta.primary_key, BigAutoField)
}
"""Table whose primary key the database can generate -> that column."""

ENCRYPTED_FIELDS: dict[type[Table], tuple[EncryptedField, ...]] = {
    model: tuple(field for field in model._meta.sorted_fields if isinstance(field, EncryptedField))
    for model in TABLES
    if issubclass(model, SealedRow)
}
"""The encrypted fields of each table that has some."""

for _model in TABLES:
    _unique = [index for index in INDEXES.get(_model, ()) if index.unique]
    give_repr(_model, {"name", "label", *(name for index in _unique for name, _ in index.columns)})
