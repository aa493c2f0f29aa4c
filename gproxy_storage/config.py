"""Settings: arguments > environment > .env > TOML > default, for each setting separately."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .dsn import Dsn
from .dsn.text import nearest
from .errors import ConfigError, SecretError
from .secret import Secret, without_locals
from .setting_files import decoded, parse_toml, read_file

DSN = "GPROXY_DSN"
DATA_DIR = "GPROXY_DATA_DIR"
CONFIG = "GPROXY_CONFIG"
SECRET_KEY = "DATABASE_SECRET_KEY"  # noqa: S105 - the variable's name
SECRET_KEY_FILE = "DATABASE_SECRET_KEY_FILE"  # noqa: S105 - the variable's name

DEFAULT_DATA_DIR = "./data"
DEFAULT_CONFIG = "gproxy.toml"
MAX_SECRET_FILE_BYTES = 64 * 1024

GPROXY_KEYS = frozenset(
    {
        *("dsn", "data_dir", "host", "port", "proxy", "spoof_emulation", "update_channel"),
        *("enable_usage", "enable_upstream_log", "enable_upstream_log_body"),
        *("enable_downstream_log", "enable_downstream_log_body"),
    }
)
"""The keys of ``[global]``, as in GPROXY; only `dsn` and `data_dir` are read here."""

_log = logging.getLogger(__name__)

# As Rust's str::trim (Unicode White_Space). Python's strip() would also remove U+001C to U+001F,
# and GPROXY would derive another key from the same secret.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a Storage. The repr shows no secret.

    Attributes:
        dsn: the database.
        data_dir: the directory of the default database and of spool files.
        secret_key: ``DATABASE_SECRET_KEY``, trimmed and not empty; None for no encryption.
        secret_key_file: the file from which it was read, if any.
        dsn_is_default: no DSN is set, so it is ``gproxy.db`` in `data_dir`.
        sources: where ``dsn``, ``data_dir`` and ``secret_key`` come from: ``argument``,
            ``environment``, ``.env``, the path of the TOML file, or ``default``.
    """

    dsn: Dsn
    data_dir: Path
    secret_key: Secret | None
    secret_key_file: Path | None
    dsn_is_default: bool
    sources: Mapping[str, str] = field(hash=False)

    @classmethod
    @without_locals
    def load(
        cls,
        *,
        dsn: str | Dsn | None = None,
        data_dir: str | Path | None = None,
        config: str | Path | None = None,
        secret_key: str | Secret | None = None,
        environ: Mapping[str, str] | None = None,
        dotenv: str | Path | None = ".env",
    ) -> Settings:
        """Collect the settings. Creates nothing and does not change ``os.environ``.

        A blank ``GPROXY_*`` variable or TOML value counts as absent: it is the result of
        ``GPROXY_DSN=${NOT_SET}`` in a compose file. A blank ``DATABASE_SECRET_KEY`` or
        ``DATABASE_SECRET_KEY_FILE`` is an error: encryption was intended.

        Args:
            dsn: overrides all other sources, even if blank; likewise the next two.
            data_dir: the data directory.
            config: the path of the TOML file.
            secret_key: overrides both variables.
            environ: the environment; by default the process's.
            dotenv: a file of variables, read if it exists; None for none.
        Raises:
            DSNError: when the DSN cannot be used.
            SecretError: when the secret is blank, not UTF-8, given in two ways, or in a file
                that cannot be read or is over 64 KiB.
            ConfigError: when ``.env``, the TOML file or the data directory cannot be used.
        """
        layers = (
            _Layer("environment", "", os.environ if environ is None else environ),
            _Layer(".env", f" in {dotenv}", _read_dotenv(dotenv)),
        )
        key, key_file = _secret_key(secret_key, layers)
        toml = _read_toml(_given(config, "config") or _find(CONFIG, layers))
        directory = _data_dir(
            _given(data_dir, "data_dir") or _find(DATA_DIR, layers) or toml.get("data_dir")
        )
        database = _dsn(_given(dsn, "dsn") or _find(DSN, layers) or toml.get("dsn"), directory)
        _warn_of_foreign_secret(key, database, directory, dotenv)
        found = {"dsn": database, "data_dir": directory, "secret_key": key}
        return cls(
            dsn=database.value,
            data_dir=directory.value,
            secret_key=key.value,
            secret_key_file=key_file,
            dsn_is_default=database.source == "default",
            sources=MappingProxyType({name: entry.source for name, entry in found.items()}),
        )


class _Found(NamedTuple):
    """A value, its source, and its name in messages."""

    value: Any
    source: str
    setting: str


class _Layer(NamedTuple):
    """Variables from one source; the suffix names the source in messages."""

    source: str
    suffix: str
    variables: Mapping[str, str]


def _given(argument: Any, name: str) -> _Found | None:
    return None if argument is None else _Found(argument, "argument", name)


def _find(name: str, layers: Sequence[_Layer], *, may_be_blank: bool = False) -> _Found | None:
    for source, suffix, variables in layers:
        value = variables.get(name)
        if value is not None and (may_be_blank or value.strip()):
            return _Found(value, source, f"{name}{suffix}")
    return None


def _dsn(found: _Found | None, directory: _Found) -> _Found:
    if found is None:
        default = Dsn.for_file(directory.value / "gproxy.db", setting=directory.setting)
        return _Found(default, "default", DSN)
    if isinstance(found.value, Dsn):
        return found
    return found._replace(value=Dsn.parse(found.value, setting=found.setting))


def _data_dir(found: _Found | None) -> _Found:
    found = found or _Found(DEFAULT_DATA_DIR, "default", DATA_DIR)
    text = str(found.value)
    if not text.strip() or "\0" in text:
        raise ConfigError(
            f"{found.setting}: {text!r} is not a directory; name one", setting=found.setting
        )
    return found._replace(value=Path(text))


def _secret_key(
    argument: str | Secret | None, layers: Sequence[_Layer]
) -> tuple[_Found, Path | None]:
    if argument is not None:
        return _Found(clean_secret(argument, "secret_key"), "argument", "secret_key"), None
    key = _find(SECRET_KEY, layers, may_be_blank=True)
    file = _find(SECRET_KEY_FILE, layers, may_be_blank=True)
    if key and file:
        raise SecretError(
            f"{key.setting} and {file.setting} are both set; unset one", setting=key.setting
        )
    if file:
        path = Path(file.value) if file.value.strip() else None
        secret = read_secret_file(path, file.setting) if path else clean_secret("", file.setting)
        return file._replace(value=secret), path
    if not key:
        return _Found(None, "default", SECRET_KEY), None
    return key._replace(value=clean_secret(key.value, key.setting)), None


@without_locals
def clean_secret(secret: str | Secret, setting: str) -> Secret:
    """Return a secret without surrounding white space; refuse one that is blank or not UTF-8."""
    text = secret.reveal() if isinstance(secret, Secret) else secret
    trimmed = text.strip(WHITE_SPACE)
    if not trimmed:
        raise SecretError(
            f"{setting}: the secret is blank; set one, or unset the variable to disable encryption",
            setting=setting,
        )
    if re.search(r"[\ud800-\udfff]", trimmed):  # os.environ's form of bytes that are not UTF-8
        raise SecretError(
            f"{setting}: the secret is not UTF-8; encode it as UTF-8", setting=setting
        )
    return Secret(trimmed)


@without_locals
def read_secret_file(path: Path, setting: str = SECRET_KEY_FILE) -> Secret:
    """Read the secret from a file of at most 64 KiB, or raise SecretError with the reason."""
    # A value that is not an absolute path may be the secret itself, in the wrong variable.
    shown = repr(str(path)) if path.is_absolute() else "the file that it names"
    content = read_file(path, MAX_SECRET_FILE_BYTES)
    text = decoded(content)
    if isinstance(content, OSError):
        problem = f"cannot be read: {content.strerror}; name a readable file, by its absolute path"
    elif text is None:
        problem = "is not UTF-8; encode it as UTF-8"
    elif not text.strip(WHITE_SPACE):
        problem = "is blank; write the secret into it"
    else:
        return clean_secret(text, setting)
    raise SecretError(f"{setting}: {shown} {problem}", setting=setting)


def _read_dotenv(path: str | Path | None) -> dict[str, str]:
    if path is None:
        return {}
    content = read_file(Path(path))
    is_virtual_environment = (Path(path) / "pyvenv.cfg").is_file()  # some are called .env
    if isinstance(content, FileNotFoundError) or is_virtual_environment:
        return {}
    text = decoded(content)
    if text is None:
        problem = content.strerror if isinstance(content, OSError) else "not UTF-8"
        raise ConfigError(
            f"{str(path)!r} cannot be read: {problem}; correct or remove it", setting=str(path)
        )

    import dotenv

    variables = dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False)
    for name in (DSN, DATA_DIR, CONFIG, SECRET_KEY, SECRET_KEY_FILE):
        line = re.search(rf"^[^\S\n]*(?:export\s+)?{name}(?=[\s=]|$)", text, re.MULTILINE)
        # python-dotenv only logs a warning, and another value would be used silently.
        if line and name not in variables:
            error = SecretError if name in {SECRET_KEY, SECRET_KEY_FILE} else ConfigError
            number = text.count("\n", 0, line.start()) + 1
            raise error(
                f"{name} in {str(path)!r}, line {number}: its value cannot be read; check its "
                "quotes",
                setting=f"{name} in {path}",
            )
    return {name: value or "" for name, value in variables.items()}


def _read_toml(found: _Found | None) -> dict[str, _Found]:
    """Return ``dsn`` and ``data_dir`` from the ``[global]`` table if they are not blank.

    All other keys are GPROXY's. Messages show nothing of the file but positions, types and names of
    keys, for the DSN in it is a secret.
    """
    path = Path(found.value if found else DEFAULT_CONFIG)
    setting = found.setting if found else CONFIG
    content = read_file(path)
    if isinstance(content, FileNotFoundError) and not found:
        return {}
    text = decoded(content)
    if isinstance(content, OSError):
        read: Any = f"cannot be read: {content.strerror}; name a readable file"
    elif text is None:
        read = "is not UTF-8; encode it as UTF-8"
    else:
        read = parse_toml(text)
    if isinstance(read, str):
        raise ConfigError(f"{setting}: {str(path)!r} {read}", setting=setting)
    table = read.get("global", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{setting}: 'global' in {str(path)!r} must be a table", setting=setting)
    _warn_of_unknown(table.keys() - GPROXY_KEYS, path)
    entries = {}
    for key in ("dsn", "data_dir"):
        value = table.get(key, "")
        name = f"{key} in {path}"
        if not isinstance(value, str):
            problem = f"must be a string, not {type(value).__name__}"
            raise ConfigError(f"{key} in {str(path)!r} {problem}", setting=name)
        if value.strip():
            entries[key] = _Found(value, str(path), name)
    return entries


def _warn_of_unknown(keys: Iterable[str], path: Path) -> None:
    """Warn of unknown keys: a mistyped one would be ignored silently."""
    for key in sorted(keys)[:10]:
        # A key that is not a name may be a misplaced value.
        shown = repr(key) if re.fullmatch(r"[A-Za-z][\w-]{0,39}", key) else "that is not a name"
        _log.warning(
            "%r: [global] has a key %s, which is not known: %sit is ignored",
            str(path),
            shown,
            nearest(key, GPROXY_KEYS),
        )


def _warn_of_foreign_secret(
    key: _Found, database: _Found, directory: _Found, dotenv: str | Path | None
) -> None:
    """Warn if the working directory's .env sets the secret for a DSN from another source.

    Anyone who can write there would know the secret of a new database.
    """
    place = directory if database.source == "default" else database
    named_apart = place.source in {"argument", "environment"} or Path(place.source).is_absolute()
    if key.source == ".env" and named_apart and not Path(dotenv or "").is_absolute():
        _log.warning(
            "%s of the working directory %s is the secret of %s, which comes from elsewhere (%s): "
            "anyone who can write that file chooses the secret; set both in one place",
            key.setting,
            Path.cwd(),
            database.value,
            place.source,
        )
