"""Ways to spoil a synced schema that sync must refuse, and the words that it has for each.

One table each, so that none hides another.
"""

from __future__ import annotations

from typing import NamedTuple


class Spoiled(NamedTuple):
    """What is wrong, as sync says it, and the SQL that makes it so."""

    drift: str
    script: str


STRANGE = "column strange is unknown and is NOT NULL without a default: every insert would fail"
NO_VALUE = "is missing, and is NOT NULL without a default: existing rows would have no value"


def taken(table: str, name: str, holder: str) -> str:
    """The words for a name that an index or a foreign key cannot get."""
    return f"{table}: the name {name} is taken by another object ({holder}): rename or drop that"


POSTGRES = (
    Spoiled(
        "usages: column cost is of type text, not DOUBLE PRECISION",
        "ALTER TABLE usages ALTER cost DROP DEFAULT, ALTER cost TYPE TEXT",
    ),
    Spoiled(
        f"claude_files: {STRANGE}", "ALTER TABLE claude_files ADD COLUMN strange INTEGER NOT NULL"
    ),
    Spoiled(
        "storage_state: a view has the name of the table",
        """DROP TABLE storage_state;
        CREATE VIEW storage_state AS SELECT 1 AS name""",
    ),
    Spoiled(
        "global_settings: an index has the name of the table",
        """DROP TABLE global_settings;
        CREATE INDEX global_settings ON users (is_admin)""",
    ),
    Spoiled(
        taken("providers", "ix_providers_channel", "providers"),
        """DROP INDEX ix_providers_channel;
        CREATE INDEX ix_providers_channel ON providers (label)""",
    ),
    Spoiled(
        taken("credentials", "ix_credentials_provider_id", "a sequence"),
        """DROP INDEX ix_credentials_provider_id;
        CREATE SEQUENCE ix_credentials_provider_id""",
    ),
    Spoiled(
        taken("user_keys", "ix_user_keys_user_id", "a table"),
        """DROP INDEX ix_user_keys_user_id;
        CREATE TABLE ix_user_keys_user_id (id INTEGER)""",
    ),
    Spoiled(
        taken("user_credential_files", "ix_user_credential_files_credential_id", "somebody_elses"),
        """DROP INDEX ix_user_credential_files_credential_id;
        CREATE TABLE somebody_elses (id INTEGER);
        CREATE INDEX ix_user_credential_files_credential_id ON somebody_elses (id)""",
    ),
    Spoiled(
        "models: the foreign key wrong of provider_id points to users (id), not to providers",
        """ALTER TABLE models DROP CONSTRAINT fk_models_provider_id;
        ALTER TABLE models ADD CONSTRAINT wrong FOREIGN KEY (provider_id) REFERENCES users (id)""",
    ),
    Spoiled(
        "user_quotas: the foreign key wrong of user_id is ON DELETE NO ACTION, not ON DELETE "
        "CASCADE",
        """ALTER TABLE user_quotas
            ADD CONSTRAINT wrong FOREIGN KEY (user_id) REFERENCES users (id)""",
    ),
    Spoiled(
        "credential_statuses: the foreign key fk_credential_statuses_credential_id of "
        "credential_id is NOT VALID: rows may refer to missing rows; validate it",
        """ALTER TABLE credential_statuses DROP CONSTRAINT fk_credential_statuses_credential_id;
        ALTER TABLE credential_statuses ADD CONSTRAINT fk_credential_statuses_credential_id
            FOREIGN KEY (credential_id) REFERENCES credentials (id) ON DELETE CASCADE NOT VALID""",
    ),
    Spoiled(
        "user_rate_limits: column model_pattern is NULL, against the model's NOT NULL",
        "ALTER TABLE user_rate_limits ALTER model_pattern DROP NOT NULL",
    ),
    Spoiled(
        "upstream_requests: column request_url is NOT NULL, against the model's NULL",
        "ALTER TABLE upstream_requests ALTER request_url SET NOT NULL",
    ),
    Spoiled(
        f"downstream_requests: column request_method {NO_VALUE} for it",
        "ALTER TABLE downstream_requests DROP COLUMN request_method",
    ),
    Spoiled(
        "user_file_permissions: the primary key is (user_id, provider_id), not (id)",
        """ALTER TABLE user_file_permissions DROP CONSTRAINT user_file_permissions_pkey;
        ALTER TABLE user_file_permissions ADD PRIMARY KEY (user_id, provider_id)""",
    ),
    Spoiled(
        "users: column id generates no keys",
        "ALTER TABLE users ALTER id DROP DEFAULT",
    ),
    Spoiled(
        "user_credential_files: column deleted_at is generated, against the model",
        """ALTER TABLE user_credential_files DROP deleted_at;
        ALTER TABLE user_credential_files ADD deleted_at TIMESTAMPTZ
            GENERATED ALWAYS AS (created_at) STORED""",
    ),
)

MYSQL = (
    Spoiled(
        "usages: column cost is of type longtext, not DOUBLE PRECISION",
        "ALTER TABLE usages MODIFY cost LONGTEXT NOT NULL",
    ),
    Spoiled(
        f"claude_files: {STRANGE}", "ALTER TABLE claude_files ADD COLUMN strange INTEGER NOT NULL"
    ),
    Spoiled(
        "storage_state: a view has the name of the table",
        """DROP TABLE storage_state;
        CREATE VIEW storage_state AS SELECT 1 AS name""",
    ),
    Spoiled(
        "global_settings: a MyISAM table has the name of the table",
        "ALTER TABLE global_settings ENGINE = MyISAM",
    ),
    Spoiled(
        taken("providers", "ix_providers_channel", "providers"),
        """ALTER TABLE providers DROP INDEX ix_providers_channel,
            ADD FULLTEXT INDEX ix_providers_channel (channel)""",
    ),
    Spoiled(
        taken("downstream_requests", "fk_downstream_requests_user_id", "downstream_requests_old"),
        """RENAME TABLE downstream_requests TO downstream_requests_old;
        ALTER TABLE downstream_requests_old DROP FOREIGN KEY fk_downstream_requests_user_key_id""",
    ),
    Spoiled(
        "user_keys: unique index prefix covers only a prefix",
        """ALTER TABLE user_keys DROP INDEX uq_user_keys_api_key_digest,
            ADD UNIQUE INDEX prefix (api_key_digest(10))""",
    ),
    Spoiled(
        "models: the foreign key wrong of provider_id points to users (id), not to providers",
        """ALTER TABLE models DROP FOREIGN KEY fk_models_provider_id,
            ADD CONSTRAINT wrong FOREIGN KEY (provider_id) REFERENCES users (id)""",
    ),
    Spoiled(
        "user_quotas: the foreign key wronger of user_id is ON DELETE NO ACTION, not ON DELETE "
        "CASCADE",
        """ALTER TABLE user_quotas
            ADD CONSTRAINT wronger FOREIGN KEY (user_id) REFERENCES users (id)""",
    ),
    Spoiled(
        "user_rate_limits: column model_pattern is NULL, against the model's NOT NULL",
        "ALTER TABLE user_rate_limits MODIFY model_pattern VARCHAR(255)",
    ),
    Spoiled(
        "upstream_requests: column request_url is NOT NULL, against the model's NULL",
        "ALTER TABLE upstream_requests MODIFY request_url LONGTEXT NOT NULL",
    ),
    Spoiled(
        f"credential_statuses: column health_kind {NO_VALUE} for it",
        "ALTER TABLE credential_statuses DROP COLUMN health_kind",
    ),
    Spoiled(
        "user_file_permissions: the primary key is (user_id, id), not (id)",
        """ALTER TABLE user_file_permissions DROP PRIMARY KEY, ADD PRIMARY KEY (user_id, id),
            ADD INDEX counter (id)""",
    ),
    Spoiled(
        "user_credential_files: column id generates no keys",
        "ALTER TABLE user_credential_files MODIFY id BIGINT NOT NULL",
    ),
    Spoiled(
        "providers: column label is generated, against the model",
        """ALTER TABLE providers DROP COLUMN label;
        ALTER TABLE providers ADD COLUMN label LONGTEXT GENERATED ALWAYS AS (channel) VIRTUAL""",
    ),
)


class Remade(NamedTuple):
    """Faults on SQLite, where a table is recreated with other DDL."""

    drift: str
    table: str
    old: str
    new: str


SQLITE = (
    Spoiled(
        "user_file_permissions: a view has the name of the table",
        """DROP TABLE user_file_permissions;
        CREATE VIEW user_file_permissions AS SELECT * FROM a_table_that_is_gone""",
    ),
    Spoiled(
        "global_settings: an index has the name of the table",
        """DROP TABLE global_settings;
        CREATE INDEX global_settings ON users (is_admin)""",
    ),
    Spoiled(
        taken("providers", "ix_providers_channel", "providers"),
        """DROP INDEX ix_providers_channel;
        CREATE INDEX ix_providers_channel ON providers (label)""",
    ),
    Spoiled(
        taken("credentials", "ix_credentials_provider_id", "a table"),
        """DROP INDEX ix_credentials_provider_id;
        CREATE TABLE ix_credentials_provider_id (id INTEGER)""",
    ),
    Spoiled(
        taken("user_credential_files", "ix_user_credential_files_credential_id", "users"),
        """DROP INDEX ix_user_credential_files_credential_id;
        CREATE INDEX ix_user_credential_files_credential_id ON users (enabled)""",
    ),
    Remade("usages: column cost is of type TEXT, not REAL", "usages", '"cost" REAL', '"cost" TEXT'),
    Remade(
        f"claude_files: {STRANGE}",
        "claude_files",
        '"file_id"',
        '"strange" INT NOT NULL DEFAULT NULL, "file_id"',
    ),
    Remade(
        "user_keys: column user_id has no foreign key to users, and this database cannot add one "
        "to an existing column",
        "user_keys",
        ', CONSTRAINT "fk_user_keys_user_id" FOREIGN KEY ("user_id") REFERENCES "users" ("id") '
        "ON DELETE CASCADE",
        "",
    ),
    Remade(
        "models: the foreign key models/0 of provider_id points to users (id), not to providers",
        "models",
        'REFERENCES "providers"',
        'REFERENCES "users"',
    ),
    Remade(
        "user_quotas: the foreign key user_quotas/0 of user_id is ON DELETE RESTRICT, not ON "
        "DELETE CASCADE",
        "user_quotas",
        "ON DELETE CASCADE",
        "ON DELETE RESTRICT",
    ),
    Remade(
        "user_rate_limits: column model_pattern is NULL, against the model's NOT NULL",
        "user_rate_limits",
        '"model_pattern" VARCHAR(255) NOT NULL',
        '"model_pattern" VARCHAR(255)',
    ),
    Remade(
        "upstream_requests: column request_url is NOT NULL, against the model's NULL",
        "upstream_requests",
        '"request_url" TEXT',
        '"request_url" TEXT NOT NULL',
    ),
    Remade(
        f"downstream_requests: column request_method {NO_VALUE} for it",
        "downstream_requests",
        '"request_method" TEXT NOT NULL, ',
        "",
    ),
    Remade(
        "storage_state: the primary key is (value), not (name)",
        "storage_state",
        'PRIMARY KEY, "value" TEXT NOT NULL',
        ', "value" TEXT NOT NULL PRIMARY KEY',
    ),
    Remade(
        "users: column id generates no keys",
        "users",
        '"id" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT',
        '"id" BIGINT NOT NULL PRIMARY KEY',
    ),
    Remade(
        "providers: column label is generated, against the model",
        "providers",
        '"label" TEXT',
        '"label" TEXT GENERATED ALWAYS AS (channel) VIRTUAL',
    ),
)
