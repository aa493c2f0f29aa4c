"""The errors of MySQL and MariaDB: their meaning by code, the names in their messages, cures."""

from __future__ import annotations

import re

from pymysql.constants import CR, ER

from .failures import Failure

_CONNECTION_KILLED = 1927  # MariaDB only
_DISCONNECTED_IDLE = 4031  # MySQL 8.0.24
BEYOND_COLUMN = {
    ER.WARN_DATA_OUT_OF_RANGE,
    ER.TRUNCATED_WRONG_VALUE,
    ER.TRUNCATED_WRONG_VALUE_FOR_FIELD,
    ER.WARN_DATA_TRUNCATED,
}
"""The codes of values that are beyond what a column holds."""

_CHECK_FAILED = {3819, 4025}  # MySQL, MariaDB

_FAILURES: dict[int, Failure] = {
    ER.DUP_ENTRY: Failure.CONFLICT,
    ER.NO_REFERENCED_ROW: Failure.REFERENCE,
    ER.NO_REFERENCED_ROW_2: Failure.REFERENCE,
    ER.BAD_NULL_ERROR: Failure.VALUE,
    ER.NO_DEFAULT_FOR_FIELD: Failure.VALUE,
    ER.DATA_TOO_LONG: Failure.VALUE,
    ER.WARN_DATA_OUT_OF_RANGE: Failure.VALUE,
    ER.TRUNCATED_WRONG_VALUE_FOR_FIELD: Failure.VALUE,
    ER.TRUNCATED_WRONG_VALUE: Failure.VALUE,
    ER.WARN_DATA_TRUNCATED: Failure.VALUE,
    ER.NET_PACKET_TOO_LARGE: Failure.VALUE,
    3140: Failure.VALUE,  # ER_INVALID_JSON_TEXT
    3151: Failure.VALUE,  # ER_JSON_KEY_TOO_BIG
    3157: Failure.VALUE,  # ER_JSON_DOCUMENT_TOO_DEEP
    **dict.fromkeys(_CHECK_FAILED, Failure.VALUE),
    167: Failure.VALUE,  # HA_ERR_AUTOINC_ERANGE: no key is left to generate
    1644: Failure.VALUE,  # ER_SIGNAL_EXCEPTION, a trigger's
    ER.LOCK_DEADLOCK: Failure.TRANSIENT,
    ER.LOCK_WAIT_TIMEOUT: Failure.TRANSIENT,
    ER.CHECKREAD: Failure.TRANSIENT,  # MariaDB: the row changed since the snapshot
    ER.OPTION_PREVENTS_STATEMENT: Failure.READ_ONLY,
    1792: Failure.READ_ONLY,  # ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
    1836: Failure.READ_ONLY,  # ER_READ_ONLY_MODE
    1874: Failure.READ_ONLY,  # ER_INNODB_READ_ONLY
    ER.TABLEACCESS_DENIED_ERROR: Failure.DENIED,
    ER.DBACCESS_DENIED_ERROR: Failure.DENIED,
    ER.NO_SUCH_TABLE: Failure.SCHEMA,
    ER.BAD_FIELD_ERROR: Failure.SCHEMA,
    3: Failure.EXHAUSTED,  # EE_WRITE
    ER.DISK_FULL: Failure.EXHAUSTED,
    ER.OUTOFMEMORY: Failure.EXHAUSTED,
    ER.ERROR_ON_WRITE: Failure.EXHAUSTED,
    ER.GET_ERRNO: Failure.EXHAUSTED,  # the storage engine failed
    ER.RECORD_FILE_FULL: Failure.EXHAUSTED,
    ER.OUT_OF_SORTMEMORY: Failure.EXHAUSTED,
    ER.OUT_OF_RESOURCES: Failure.EXHAUSTED,
    1206: Failure.EXHAUSTED,  # ER_LOCK_TABLE_FULL
    1878: Failure.EXHAUSTED,  # ER_TEMP_FILE_WRITE_FAILURE
    3019: Failure.EXHAUSTED,  # ER_INNODB_UNDO_LOG_FULL
    1194: Failure.EXHAUSTED,  # ER_CRASHED_ON_USAGE
    1812: Failure.EXHAUSTED,  # ER_TABLESPACE_MISSING
    1226: Failure.EXHAUSTED,  # ER_USER_LIMIT_REACHED
    1317: Failure.EXHAUSTED,  # ER_QUERY_INTERRUPTED: KILL QUERY, or a time-out of the server's
    1969: Failure.EXHAUSTED,  # MariaDB: max_statement_time
    0: Failure.LOST,  # PyMySQL's own "connection is closed"
    ER.SERVER_SHUTDOWN: Failure.LOST,
    3032: Failure.LOST,  # ER_SERVER_OFFLINE_MODE
    _CONNECTION_KILLED: Failure.LOST,
    _DISCONNECTED_IDLE: Failure.LOST,
    CR.CR_SERVER_GONE_ERROR: Failure.LOST,
    CR.CR_SERVER_LOST: Failure.LOST,
    CR.CR_CONN_HOST_ERROR: Failure.LOST,
    CR.CR_COMMANDS_OUT_OF_SYNC: Failure.LOST,
}

# The name in a message, anchored, for a value may precede it: Incorrect integer value: 'value' for
# column 'name' at row 1. MariaDB writes `database`.`table`.`name`.
_NAMED = re.compile(
    r"(?:^Column|^Field| for column) ['`]([\w.`]+)['`]"
    r"(?: at row \d+| cannot be null| doesn't have a default value|\.)$"
    r"|^CONSTRAINT `([\w.]+)` failed"
    r"|^Table '([^']+)' doesn't exist$"
    r"|^Unknown column '([\w.]+)'"
)

_KEY = re.compile(r"'(?:\w+\.)?(\w+)'\W*$")
"""The last quoted text, if it is a name."""

_TAKEN_ID = re.compile(r"'(-?\d+)' for key '(?:(\w+)\.)?PRIMARY'")
"""What is said of a primary key that exists; MariaDB does not name the table."""

_HINTS: dict[int, str] = {
    ER.ACCESS_DENIED_ERROR: "check the user and the password",
    ER.DBACCESS_DENIED_ERROR: "grant the user access to the database, or correct its name",
    ER.BAD_DB_ERROR: "create the database, or correct its name",
    ER.CON_COUNT_ERROR: "lower max_connections in the DSN, or raise the server's",
    ER.TOO_MANY_USER_CONNECTIONS: "lower max_connections in the DSN, or raise the user's limit",
    ER.USER_LIMIT_REACHED: "lower max_connections in the DSN, or raise the user's limit",
    ER.HOST_NOT_PRIVILEGED: "give the user an account for this client's host",
    3159: "use ssl-mode=REQUIRED",  # ER_SECURE_TRANSPORT_REQUIRED
}

# Hints by text: PyMySQL has one code for all failures before the greeting. The first match counts.
_HINTS_BY_TEXT: tuple[tuple[str, str], ...] = (
    ("server doesn't support it", "it has no TLS: use ssl-mode=PREFERRED, or switch TLS on there"),
    ("certificate has expired|not yet valid", "renew the server's certificate, or check the clock"),
    (
        "[Hh]ostname mismatch|IP address mismatch|doesn't match",
        "connect to a name that the certificate has, or use ssl-mode=VERIFY_CA",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "give the CA that signed the server's certificate as ssl-ca, or use ssl-mode=REQUIRED, "
        "which checks no certificate",
    ),
    (
        "WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION",
        "the server has no version of TLS that this Python accepts: update the server, or use "
        "ssl-mode=DISABLED",
    ),
    ("Authentication plugin", "give the user another plugin, for example caching_sha2_password"),
)
_SOCKET_HINTS = (
    ("Permission denied", "check the modes of the socket and its directory"),
    ("", "check that the server runs and that its socket exists, or name a host"),
)


def code_of(error: Exception) -> int:
    """Return the code of an error, -1 if it has none."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else -1


def meaning(code: int, message: str) -> Failure:
    """Return the class of an error code; some codes have several meanings."""
    if code == ER.OPTION_PREVENTS_STATEMENT and "read-only" not in message:
        return Failure.OTHER  # another of the server's options
    if code == ER.UNKNOWN_COM_ERROR and "WSREP" in message:
        return Failure.LOST  # a Galera node that is not part of the cluster now
    return _FAILURES.get(code, Failure.OTHER)


def named(found: Failure, message: str) -> str | None:
    """Return the name of the constraint, index, table or column that a message is about."""
    match found:
        case Failure.CONFLICT:  # Duplicate entry 'value' for key 'table.index'
            key = _KEY.search(message)
            return key[1] if key else None
        case Failure.REFERENCE:  # ... (`db`.`table`, CONSTRAINT `name` FOREIGN KEY ...
            return message.partition("CONSTRAINT `")[2].partition("`")[0] or None
        case Failure.VALUE | Failure.SCHEMA:
            name = _NAMED.search(message)
            return re.split("[.`]+", name[name.lastindex or 0])[-1] if name else None
        case _:
            return None


def primary_key_of(error: Exception) -> tuple[str, int] | None:
    """Return the table and the primary key of a row that exists already; MariaDB names no table."""
    found = _TAKEN_ID.search(str(error.args[-1])) if code_of(error) == ER.DUP_ENTRY else None
    return None if found is None else (found[2] or "", int(found[1]))


def hint(code: int, message: str, *, by_socket: bool) -> str:
    """Return what to do after a failed attempt to connect."""
    hints = _HINTS_BY_TEXT
    if code == CR.CR_CONN_HOST_ERROR and by_socket:
        hints = (*hints, *_SOCKET_HINTS)
    return _HINTS.get(code) or next(
        (cure for pattern, cure in hints if re.search(pattern, message)),
        "check that the server runs and that host and port are right",
    )
