"""Settings: which source wins, what blank means, and what refusals say and do not say."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from gproxy_storage.config import GPROXY_KEYS, WHITE_SPACE, Settings
from gproxy_storage.dsn import Dsn
from gproxy_storage.errors import ConfigError, DSNError, SecretError
from gproxy_storage.models import GlobalSettings
from gproxy_storage.secret import Secret
from tests.cases import for_each
from tests.support import everything_in_frames, everything_said

PASSWORD = "hunter2-Secret"


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and none of the variables set."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("GPROXY_", "DATABASE_SECRET_KEY")):
            monkeypatch.delenv(name)
    return tmp_path


def refusal(load: Callable[[], Settings]) -> ConfigError:
    """Return the error of settings, after checking what holds for all of them."""
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).isprintable(), "one line"
    assert caught.value.setting
    assert PASSWORD not in everything_said(caught.value) + everything_in_frames(caught.value)
    return caught.value


# ------------------------------------------------------------------------------------ the defaults


def test_without_settings_the_defaults_apply(workplace: Path) -> None:
    settings = Settings.load(environ={})

    assert settings.dsn == Dsn.for_file(Path("data/gproxy.db"))
    assert settings.dsn.reveal() == "sqlite://data/gproxy.db?mode=rwc"
    assert settings.dsn_is_default
    assert settings.data_dir == Path("data")
    assert settings.secret_key is None
    assert settings.sources == dict.fromkeys(("dsn", "data_dir", "secret_key"), "default")
    assert not list(workplace.iterdir()), "nothing is created"


def test_the_default_database_lies_in_the_data_directory(tmp_path: Path) -> None:
    directory = tmp_path / "a b?c#d%e"

    settings = Settings.load(environ={"GPROXY_DATA_DIR": str(directory)})

    assert settings.dsn.path == str(directory / "gproxy.db")
    assert (settings.dsn.mode, settings.dsn_is_default) == ("rwc", True)


def test_the_environment_is_the_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPROXY_DSN", "sqlite:mine.db")

    assert Settings.load().dsn.path == "mine.db"


# --------------------------------------------------------------------------------- the order


def argument(path: Path, name: str, value: str) -> Settings:
    write_toml(path, "toml-loses", "toml-loses")
    write_dotenv(path, "dotenv-loses", "dotenv-loses")
    environ = {"GPROXY_DSN": "sqlite:env-loses", "GPROXY_DATA_DIR": "env-loses"}
    if name == "dsn":
        return Settings.load(dsn=value, environ=environ)
    return Settings.load(data_dir=value, environ=environ)


def environment(path: Path, name: str, value: str) -> Settings:
    write_toml(path, "toml-loses", "toml-loses")
    write_dotenv(path, "dotenv-loses", "dotenv-loses")
    return Settings.load(environ={f"GPROXY_{name.upper()}": value})


def dotenv(path: Path, name: str, value: str) -> Settings:
    write_toml(path, "toml-loses", "toml-loses")
    (path / ".env").write_text(f"GPROXY_{name.upper()}={value}\n")
    return Settings.load(environ={})


def toml(path: Path, name: str, value: str) -> Settings:
    (path / "gproxy.toml").write_text(f"[global]\n{name} = '{value}'\n")
    return Settings.load(environ={})


def write_dotenv(path: Path, dsn: str, data_dir: str) -> None:
    (path / ".env").write_text(f"GPROXY_DSN=sqlite:{dsn}\nGPROXY_DATA_DIR={data_dir}\n")


def write_toml(path: Path, dsn: str, data_dir: str) -> None:
    (path / "gproxy.toml").write_text(
        f"[global]\ndsn = 'sqlite:{dsn}'\ndata_dir = '{data_dir}'\nhost = '::'\n[[other]]\nx = 1\n"
    )


@pytest.mark.parametrize(
    ("give", "source"),
    [
        (argument, "argument"),
        (environment, "environment"),
        (dotenv, ".env"),
        (toml, "gproxy.toml"),
    ],
)
def test_each_source_goes_before_the_next(
    workplace: Path, give: Callable[[Path, str, str], Settings], source: str
) -> None:
    by_dsn = give(workplace, "dsn", "sqlite:wins")
    by_directory = give(workplace, "data_dir", "wins")

    assert (by_dsn.dsn.path, by_dsn.sources["dsn"]) == ("wins", source)
    assert not by_dsn.dsn_is_default
    assert (by_directory.data_dir, by_directory.sources["data_dir"]) == (Path("wins"), source)


def test_each_setting_is_looked_up_separately(workplace: Path) -> None:
    write_toml(workplace, "from-toml", "from-toml")
    (workplace / ".env").write_text("GPROXY_DATA_DIR=from-dotenv\n")

    settings = Settings.load(environ={"DATABASE_SECRET_KEY": "s"}, dsn=None)

    assert settings.dsn.path == "from-toml"
    assert settings.data_dir == Path("from-dotenv")
    assert settings.sources == {
        "dsn": "gproxy.toml",
        "data_dir": ".env",
        "secret_key": "environment",
    }


def test_a_dsn_that_is_parsed_already_is_taken() -> None:
    dsn = Dsn.parse("sqlite::memory:")

    settings = Settings.load(dsn=dsn, environ={"GPROXY_DSN": "nonsense"})

    assert settings.dsn is dsn
    assert settings.sources["dsn"] == "argument"


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_variable_counts_as_absent(workplace: Path, blank: str) -> None:
    (workplace / "gproxy.toml").write_text("[global]\ndsn = 'sqlite:toml'\ndata_dir = ''\n")
    names = ("GPROXY_DSN", "GPROXY_DATA_DIR", "GPROXY_CONFIG")
    (workplace / ".env").write_text("".join(f"{name}=\n" for name in names))

    settings = Settings.load(environ=dict.fromkeys(names, blank))

    assert settings.dsn.path == "toml"
    assert settings.data_dir == Path("data")


@for_each(
    ("load", "setting"),
    [
        (lambda: Settings.load(dsn="", environ={}), "dsn"),
        (lambda: Settings.load(data_dir="", environ={}), "data_dir"),
        (lambda: Settings.load(data_dir=" ", environ={}), "data_dir"),
        (lambda: Settings.load(config="", environ={}), "config"),
        (lambda: Settings.load(secret_key="", environ={}), "secret_key"),
    ],
)
def test_a_blank_argument_is_a_mistake(load: Callable[[], Settings], setting: str) -> None:
    assert refusal(load).setting == setting


@pytest.mark.parametrize("directory", ["a\0b", "a\udcffb"])
def test_a_data_directory_that_cannot_be(directory: str) -> None:
    error = refusal(lambda: Settings.load(environ={"GPROXY_DATA_DIR": directory}))

    assert error.setting == "GPROXY_DATA_DIR"


# ----------------------------------------------------------------------------------- DSN errors


@pytest.mark.parametrize("source", ["argument", "environment", ".env", "toml"])
def test_a_bad_dsn_is_refused_by_the_name_of_its_setting(workplace: Path, source: str) -> None:
    bad = f"postgres://u:{PASSWORD}@h:x/db"
    if source == ".env":
        (workplace / ".env").write_text(f"GPROXY_DSN={bad}\n")
    if source == "toml":
        (workplace / "my.toml").write_text(f"[global]\ndsn = '{bad}'\n")
    environ = {"GPROXY_CONFIG": "my.toml"} if source == "toml" else {}
    environ |= {"GPROXY_DSN": bad} if source == "environment" else {}

    error = refusal(
        lambda: Settings.load(dsn=bad if source == "argument" else None, environ=environ)
    )

    assert isinstance(error, DSNError)
    assert (error.part, error.setting) == (
        "port",
        {
            "argument": "dsn",
            "environment": "GPROXY_DSN",
            ".env": "GPROXY_DSN in .env",
            "toml": "dsn in my.toml",
        }[source],
    )


# ----------------------------------------------------------------------------------------- .env


def test_dotenv_may_be_named_missing_or_switched_off(workplace: Path) -> None:
    write_dotenv(workplace, "dotenv", "dotenv")
    (workplace / "other").write_text("export GPROXY_DSN='sqlite:other'\n")

    assert Settings.load(environ={}).dsn.path == "dotenv"
    assert Settings.load(environ={}, dotenv=workplace / "other").dsn.path == "other"
    assert Settings.load(environ={}, dotenv=workplace / "missing").dsn_is_default
    assert Settings.load(environ={}, dotenv=None).dsn_is_default


def test_dotenv_may_be_a_virtual_environment(workplace: Path) -> None:
    (workplace / ".env").mkdir()
    (workplace / ".env" / "pyvenv.cfg").touch()

    assert Settings.load(environ={}).dsn_is_default


def test_dotenv_leaves_the_environment_alone(workplace: Path) -> None:
    write_dotenv(workplace, "dotenv", "dotenv")
    before = dict(os.environ)

    Settings.load()

    assert dict(os.environ) == before


@for_each(
    ("line", "path"),
    [
        ("GPROXY_DSN=sqlite:${HOME}/$x", "${HOME}/$x"),
        ("GPROXY_DSN='sqlite:a b' # comment", "a b"),
        ('GPROXY_DSN="sqlite:a#b"', "a#b"),
        ("GPROXY_DSN=sqlite:a%20b\r", "a b"),
        ("\ufeffGPROXY_DSN=sqlite:behind-a-byte-order-mark", "behind-a-byte-order-mark"),
        ("GPROXY_DSN=sqlite:a\nGPROXY_DSN=sqlite:b", "b"),
        ("# GPROXY_DSN=sqlite:a\nGPROXY_DSN_OLD='\nGPROXY_DSN=sqlite:b", "b"),
    ],
)
def test_dotenv_is_read_as_its_syntax_says(
    workplace: Path, line: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "dotenv.main")
    (workplace / ".env").write_text(f"{line}\n")

    assert Settings.load(environ={"HOME": "/root", "x": "y"}).dsn.path == path


@for_each(
    ("name", "error_class"),
    [
        ("GPROXY_DSN", ConfigError),
        ("GPROXY_DATA_DIR", ConfigError),
        ("GPROXY_CONFIG", ConfigError),
        ("DATABASE_SECRET_KEY", SecretError),
        ("DATABASE_SECRET_KEY_FILE", SecretError),
    ],
)
def test_a_line_of_dotenv_that_is_not_understood(
    workplace: Path, name: str, error_class: type[ConfigError]
) -> None:
    (workplace / ".env").write_text(f"OTHER=1\nexport {name}='{PASSWORD}\n")

    error = refusal(lambda: Settings.load(environ={}))

    assert type(error) is error_class
    assert f"{name} in '.env', line 2:" in str(error)


def test_a_variable_without_a_value_in_dotenv(workplace: Path) -> None:
    (workplace / ".env").write_text("GPROXY_DSN\n")
    assert Settings.load(environ={}).dsn_is_default

    (workplace / ".env").write_text("DATABASE_SECRET_KEY\n")
    assert isinstance(refusal(lambda: Settings.load(environ={})), SecretError)


def test_dotenv_that_is_not_utf_8(workplace: Path) -> None:
    (workplace / ".env").write_bytes(b"DATABASE_SECRET_KEY=" + PASSWORD.encode() + b"\xff\n")

    assert "'.env' cannot be read: not UTF-8" in str(refusal(lambda: Settings.load(environ={})))


@pytest.mark.parametrize("name", [".env", "gproxy.toml", "/secret"])
def test_files_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def may_not(path: Path, flags: int) -> NoReturn:
        code = errno.EACCES if str(path) == name else errno.ENOENT
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", may_not)  # root, as whom containers run tests, may
    environ = {"DATABASE_SECRET_KEY_FILE": name} if name == "/secret" else {}

    error = refusal(lambda: Settings.load(environ=environ))

    assert f"{name!r} cannot be read: Permission denied" in str(error)


# ------------------------------------------------------------------- what is no file of settings


def make_fifo(path: Path) -> str:
    os.mkfifo(path)
    return "it is a FIFO, not a regular file"


def make_directory(path: Path) -> str:
    path.mkdir()
    return "Is a directory"


def make_socket(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)  # short, for an address of a socket is
    return "it is a socket, not a regular file"


def make_device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "it is a device, not a regular file"


def make_large(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(2**40)
    return "it is longer than"


@pytest.mark.parametrize(
    "make", [make_fifo, make_directory, make_socket, make_device, make_large, None]
)
@pytest.mark.parametrize("name", [".env", "gproxy.toml", "secret"])
def test_what_is_no_regular_file(
    workplace: Path, name: str, make: Callable[[Path], str] | None
) -> None:
    """Refused at once, whatever the settings that are given elsewhere."""
    environ = {"GPROXY_DSN": "sqlite::memory:"}
    if name == "secret":
        environ["DATABASE_SECRET_KEY_FILE"] = str(workplace / name)
    if make is None:
        (workplace / "real").write_text(f"{PASSWORD}=1\n")
        (workplace / name).symlink_to("real")
        Settings.load(environ=environ)
        return
    says = make(workplace / name)

    error = refusal(lambda: Settings.load(environ=environ))

    assert f"cannot be read: {says}" in str(error)
    assert isinstance(error, SecretError) == (name == "secret")


def test_the_null_device_is_an_empty_file() -> None:
    settings = Settings.load(environ={"GPROXY_CONFIG": os.devnull}, dotenv=os.devnull)

    assert settings.dsn_is_default


DEEP = ".".join(["a"] * 1000)


@for_each(
    "text",
    [
        f"{DEEP} = 1",
        f"[{DEEP}]",
        f"x = {{{DEEP} = 1}}",
        ".".join(['"\\"a"'] * 100_000) + " = 1",
        " . ".join(["'a'"] * 100_000) + " = 1",
    ],
)
def test_keys_of_many_parts(workplace: Path, text: str) -> None:
    (workplace / "gproxy.toml").write_text(f"#{PASSWORD}\n{text}\n")

    error = refusal(lambda: Settings.load(environ={}))

    assert "'gproxy.toml' has a key of more than 64 parts" in str(error)


def test_keys_of_some_parts_and_dots_in_text(workplace: Path) -> None:
    parts = ".".join(["a"] * 60)
    (workplace / "gproxy.toml").write_text(f"{parts} = '{'.' * 1000}'\n{'b' * 100_000} = 1\n")

    assert Settings.load(environ={}).dsn_is_default


# ----------------------------------------------------------------------------------------- TOML


def test_the_keys_of_global_are_the_columns_of_gproxy() -> None:
    columns = GlobalSettings._meta.columns.keys()

    assert columns - {"id", "updated_at"} == GPROXY_KEYS


def test_unknown_keys_of_global_are_warned_of(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = "".join(f"{key} = ''\n" for key in sorted(GPROXY_KEYS))
    (workplace / "gproxy.toml").write_text(
        f"[global]\n{known}dsm = '{PASSWORD}'\n'p:{PASSWORD}@h' = 1\nzzz = 1\n[other]\nx = 1\n"
    )

    Settings.load(environ={})

    assert [record.getMessage() for record in caplog.records] == [
        "'gproxy.toml': [global] has a key 'dsm', which is not known: did you mean 'dsn'? "
        "it is ignored",
        "'gproxy.toml': [global] has a key that is not a name, which is not known: it is ignored",
        "'gproxy.toml': [global] has a key 'zzz', which is not known: it is ignored",
    ]


@pytest.mark.parametrize("by", ["argument", "environment", ".env"])
def test_the_toml_file_may_be_named(workplace: Path, by: str) -> None:
    (workplace / "my.toml").write_text("[global]\ndsn = 'sqlite:mine'\n")
    (workplace / "gproxy.toml").write_text("[global]\ndsn = 'sqlite:default'\n")
    if by == ".env":
        (workplace / ".env").write_text("GPROXY_CONFIG=my.toml\n")

    settings = Settings.load(
        config=workplace / "my.toml" if by == "argument" else None,
        environ={"GPROXY_CONFIG": "my.toml"} if by == "environment" else {},
    )

    assert settings.dsn.path == "mine"
    assert settings.sources["dsn"].endswith("my.toml")


@for_each("text", ["", "[global]\n", "other = 1\n", "\ufeff[global]\n", "#\r\n"])
def test_toml_without_our_keys(workplace: Path, text: str) -> None:
    (workplace / "gproxy.toml").write_text(text)

    assert Settings.load(environ={}).dsn_is_default


@for_each(
    ("text", "says"),
    [
        (f"[global]\ndsn = {PASSWORD}\n", "is not TOML (line 2, column 7); correct it"),
        (f"[global]\ndsn = '{PASSWORD}\nx=1\n", "is not TOML ("),
        (f"[global]\ndsn = '{PASSWORD}'\ndsn = '{PASSWORD}'\n", "(line 3, column"),
        (f"[global]\ndsn = '''{PASSWORD}", "(end of document)"),
        (f'[global]\ndsn = "{PASSWORD}\\q"\n', "(line 2, column"),
        (f"x = {'1' * 5000}\n#{PASSWORD}", "is not TOML; correct it"),
        (f"x = {'[' * 100_000}\n#{PASSWORD}", "is not TOML"),
        ("global = 1\n", "'global' in 'gproxy.toml' must be a table"),
        ("[[global]]\n", "'global' in 'gproxy.toml' must be a table"),
        ("[global]\ndsn = 1\n", "dsn in 'gproxy.toml' must be a string, not int"),
        (f"[global]\ndsn = ['{PASSWORD}']\n", "dsn in 'gproxy.toml' must be a string, not list"),
        ("[global]\ndata_dir = true\n", "data_dir in 'gproxy.toml' must be a string, not bool"),
        ("[global.dsn]\n", "dsn in 'gproxy.toml' must be a string, not dict"),
    ],
)
def test_bad_toml_is_refused(workplace: Path, text: str, says: str) -> None:
    (workplace / "gproxy.toml").write_text(text)

    assert says in str(refusal(lambda: Settings.load(environ={})))


def test_toml_that_is_not_utf_8(workplace: Path) -> None:
    (workplace / "gproxy.toml").write_bytes(f"[global]\ndsn = '{PASSWORD}".encode() + b"\xff'\n")

    assert "'gproxy.toml' is not UTF-8" in str(refusal(lambda: Settings.load(environ={})))


def test_the_toml_file_is_a_directory(workplace: Path) -> None:
    (workplace / "gproxy.toml").mkdir()

    error = refusal(lambda: Settings.load(environ={}))

    assert "'gproxy.toml' cannot be read: Is a directory" in str(error)
    assert error.setting == "GPROXY_CONFIG"


@pytest.mark.parametrize("by", ["argument", "environment", ".env"])
@pytest.mark.parametrize("name", ["missing.toml", "missing/my.toml", "gproxy.toml"])
def test_a_named_toml_file_must_exist(workplace: Path, by: str, name: str) -> None:
    if by == ".env":
        (workplace / ".env").write_text(f"GPROXY_CONFIG={name}\n")

    error = refusal(
        lambda: Settings.load(
            config=name if by == "argument" else None,
            environ={"GPROXY_CONFIG": name} if by == "environment" else {},
        )
    )

    assert f"{name!r} cannot be read: No such file or directory" in str(error)
    assert (
        error.setting
        == {
            "argument": "config",
            "environment": "GPROXY_CONFIG",
            ".env": "GPROXY_CONFIG in .env",
        }[by]
    )


def test_a_name_that_no_file_can_have() -> None:
    assert "contains a NUL" in str(refusal(lambda: Settings.load(config="a\0b", environ={})))
    assert "'a\\nb'" in str(refusal(lambda: Settings.load(config="a\nb", environ={})))


# --------------------------------------------------------------------------------------- the secret


def secret_of(environ: Mapping[str, str]) -> str:
    settings = Settings.load(environ=environ)
    assert settings.secret_key is not None
    return settings.secret_key.reveal()


@for_each(
    ("given", "kept"),
    [
        ("s", "s"),
        (" s\r\n", "s"),
        ("a b", "a b"),
        (f"{WHITE_SPACE}s{WHITE_SPACE}", "s"),
        ("\x1cs\x1f", "\x1cs\x1f"),  # Python's strip() would take these, Rust's trim does not
        ("\u200bs\ufeff", "\u200bs\ufeff"),
        ("é\U0001f511", "é\U0001f511"),
    ],
)
def test_the_secret_is_trimmed_as_rust_does(workplace: Path, given: str, kept: str) -> None:
    (workplace / "secret").write_bytes(given.encode())

    assert secret_of({"DATABASE_SECRET_KEY": given}) == kept
    assert secret_of({"DATABASE_SECRET_KEY_FILE": str(workplace / "secret")}) == kept
    for argument in (given, Secret(given)):
        settings = Settings.load(secret_key=argument, environ={})
        assert settings.secret_key == Secret(kept)
        assert settings.sources["secret_key"] == "argument"


def test_white_space_is_unicode_s() -> None:
    extra = {"\x1c", "\x1d", "\x1e", "\x1f"}

    assert set(WHITE_SPACE) == {c for c in map(chr, range(0x110000)) if c.isspace()} - extra


def test_where_the_secret_may_come_from(workplace: Path) -> None:
    (workplace / ".env").write_text("DATABASE_SECRET_KEY=from-dotenv\n")
    settings = Settings.load(environ={})
    assert (settings.secret_key, settings.sources["secret_key"]) == (Secret("from-dotenv"), ".env")

    assert secret_of({"DATABASE_SECRET_KEY": "from-environment"}) == "from-environment"


@pytest.mark.parametrize(
    ("environ", "arguments", "warns"),
    [
        ({"GPROXY_DSN": "sqlite:mine"}, {}, True),
        ({}, {"dsn": "sqlite:mine"}, True),
        ({"GPROXY_DATA_DIR": "/srv"}, {}, True),
        ({"GPROXY_CONFIG": "{here}/conf/my.toml"}, {}, True),
        ({}, {}, False),
        ({"GPROXY_DSN": "sqlite:mine", "DATABASE_SECRET_KEY": PASSWORD}, {}, None),
        ({"GPROXY_DSN": "sqlite:mine"}, {"dotenv": "{here}/.env"}, False),
        ({"GPROXY_CONFIG": "conf/my.toml"}, {}, False),
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_SECRET_KEY", "DATABASE_SECRET_KEY_FILE"])
def test_a_secret_of_the_working_directory_for_a_dsn_from_elsewhere(
    workplace: Path,
    caplog: pytest.LogCaptureFixture,
    environ: dict[str, str],
    arguments: dict[str, str],
    warns: bool | None,
    name: str,
) -> None:
    (workplace / "conf").mkdir()
    (workplace / "conf" / "my.toml").write_text("[global]\ndsn = 'sqlite:toml'\n")
    (workplace / "secret").write_text(PASSWORD)
    (workplace / ".env").write_text(f"{name}={'secret' if name.endswith('FILE') else PASSWORD}\n")
    if warns is None:
        environ = {**environ} if name == "DATABASE_SECRET_KEY" else {}

    Settings.load(
        environ={key: value.format(here=workplace) for key, value in environ.items()},
        **{key: value.format(here=workplace) for key, value in arguments.items()},
    )

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(warns)
    for message in said:
        assert message.startswith(f"{name} in .env of the working directory {workplace} is")
        assert PASSWORD not in message


def test_the_argument_replaces_both_variables() -> None:
    environ = {"DATABASE_SECRET_KEY": "", "DATABASE_SECRET_KEY_FILE": "/missing"}

    assert Settings.load(secret_key="s", environ=environ).secret_key == Secret("s")


def test_a_secret_in_a_relative_file(workplace: Path) -> None:
    (workplace / "secret").write_text("\ufeffs\n")

    assert secret_of({"DATABASE_SECRET_KEY_FILE": "secret"}) == "s"


@for_each("blank", ["", " ", "\n", "\u2003"])
@for_each("name", ["DATABASE_SECRET_KEY", "DATABASE_SECRET_KEY_FILE"])
def test_a_blank_secret_is_refused(workplace: Path, name: str, blank: str) -> None:
    (workplace / ".env").write_text("DATABASE_SECRET_KEY=shadowed\n" * name.endswith("KEY"))

    error = refusal(lambda: Settings.load(environ={name: blank}))

    assert isinstance(error, SecretError)
    assert error.setting == name
    assert "blank" in str(error)


def test_a_blank_secret_in_dotenv_is_refused(workplace: Path) -> None:
    (workplace / ".env").write_text("DATABASE_SECRET_KEY=\n")

    error = refusal(lambda: Settings.load(environ={}))

    assert isinstance(error, SecretError)
    assert error.setting == "DATABASE_SECRET_KEY in .env"


@for_each("key_in", ["environment", ".env"])
@for_each("file_in", ["environment", ".env"])
@for_each("key", [PASSWORD, ""])
def test_both_variables_are_refused(workplace: Path, key_in: str, file_in: str, key: str) -> None:
    variables: dict[str, dict[str, str]] = {"environment": {}, ".env": {}}
    variables[key_in]["DATABASE_SECRET_KEY"] = key
    variables[file_in]["DATABASE_SECRET_KEY_FILE"] = "/missing"
    lines = (f"{name}={value}\n" for name, value in variables[".env"].items())
    (workplace / ".env").write_text("".join(lines))

    error = refusal(lambda: Settings.load(environ=variables["environment"]))

    assert isinstance(error, SecretError)
    assert "are both set" in str(error)


@for_each("text", [f"{PASSWORD}\udcff", "\udcff", f"\ud800{PASSWORD}"])
def test_a_secret_that_is_not_utf_8(text: str) -> None:
    for load in (
        lambda: Settings.load(environ={"DATABASE_SECRET_KEY": text}),
        lambda: Settings.load(secret_key=text, environ={}),
        lambda: Settings.load(secret_key=Secret(text), environ={}),
    ):
        error = refusal(load)
        assert isinstance(error, SecretError)
        assert "not UTF-8" in str(error)


@for_each(
    ("content", "says"),
    [
        (b"", "is blank"),
        (b" \n\xe2\x80\x83", "is blank"),
        (PASSWORD.encode() + b"\xff", "is not UTF-8"),
        (PASSWORD.encode() * 5000, "cannot be read: it is longer than 65536 bytes"),
        (b" " * 65_537, "cannot be read: it is longer than 65536 bytes"),
    ],
)
def test_bad_secret_files_are_refused(workplace: Path, content: bytes, says: str) -> None:
    path = workplace / "secret"
    path.write_bytes(content)

    error = refusal(lambda: Settings.load(environ={"DATABASE_SECRET_KEY_FILE": str(path)}))

    assert isinstance(error, SecretError)
    assert error.setting == "DATABASE_SECRET_KEY_FILE"
    assert f"{str(path)!r} {says}" in str(error)


def test_the_longest_secret_file(workplace: Path) -> None:
    (workplace / "secret").write_bytes(b"x" * 65_535 + b"\n")

    assert secret_of({"DATABASE_SECRET_KEY_FILE": "secret"}) == "x" * 65_535


@for_each(
    ("path", "says"),
    [
        ("/missing/secret", "'/missing/secret' cannot be read: No such file or directory"),
        ("/", "'/' cannot be read: Is a directory"),
        ("/a\nb", "'/a\\nb' cannot be read"),
        ("/a\0b", "'/a\\x00b' cannot be read: its name contains a NUL"),
    ],
)
def test_a_secret_file_that_cannot_be_read(path: str, says: str) -> None:
    error = refusal(lambda: Settings.load(environ={"DATABASE_SECRET_KEY_FILE": path}))

    assert isinstance(error, SecretError)
    assert says in str(error)


def test_a_secret_in_the_variable_for_its_file_is_not_shown() -> None:
    refusal(lambda: Settings.load(environ={"DATABASE_SECRET_KEY_FILE": PASSWORD}))
    refusal(lambda: Settings.load(environ={"DATABASE_SECRET_KEY_FILE": f"a/{PASSWORD}"}))


# ---------------------------------------------------------------------------------------- the value


def test_no_secret_is_shown() -> None:
    settings = Settings.load(
        environ={
            "GPROXY_DSN": f"postgres://u:{PASSWORD}@h/db",
            "DATABASE_SECRET_KEY": f"key-{PASSWORD}",
        }
    )

    assert PASSWORD not in f"{settings} {settings!r}"
    assert "postgres://u:***@h/db" in repr(settings)


def test_it_is_immutable_hashable_and_compared_by_value() -> None:
    settings = Settings.load(environ={"GPROXY_DSN": "sqlite:x"})

    with pytest.raises(AttributeError):
        settings.dsn = Dsn.parse("sqlite:y")  # type: ignore[misc]  # the subject
    with pytest.raises(TypeError):
        settings.sources["dsn"] = "x"  # type: ignore[index]  # the subject
    assert len({settings, Settings.load(environ={"GPROXY_DSN": "sqlite:x"})}) == 1


def test_start_up_does_not_pay_for_what_it_does_not_read(workplace: Path) -> None:
    script = """
import sys, types
package = types.ModuleType("gproxy_storage")
package.__path__ = [sys.argv[1]]
sys.modules["gproxy_storage"] = package
from gproxy_storage.config import Settings
Settings.load(environ={"GPROXY_DSN": "postgres://u:p@h/db?sslmode=require"})
print(*sorted({"tomllib", "dotenv", "difflib"} & sys.modules.keys()))
"""
    package = Path(sys.modules["gproxy_storage"].__path__[0])
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, package], capture_output=True, text=True, check=True
    )

    assert ran.stdout == "\n"
