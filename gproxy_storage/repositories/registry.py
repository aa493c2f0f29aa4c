"""Every repository by its name, declared once for `Storage` and batches.

A repository is imported and created when it is first used: few programs need all of them.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ..backends.base import Backend
    from .catalog import Catalog
    from .credentials import Credentials
    from .downstream_requests import DownstreamRequests
    from .files import ClaudeFiles, Files
    from .keys import Keys
    from .limits import RateLimits
    from .permissions import FilePermissions, ModelPermissions
    from .providers import Providers
    from .quotas import Quotas
    from .settings import ProxySettings
    from .statuses import Statuses
    from .upstream_requests import UpstreamRequests
    from .usages import Usages
    from .users import Users

R = TypeVar("R")


class Registered(cached_property[R]):
    """An attribute that is a repository, given as ``module.Class`` of this package."""

    def __init__(self, path: str) -> None:
        super().__init__(lambda owner: owner._make(self.kind))
        self._path = path

    def __repr__(self) -> str:
        return f"<Registered {self._path}>"

    @property
    def kind(self) -> type[R]:
        """The repository's class."""
        module, name = self._path.split(".")
        try:
            loaded = import_module(f".{module}", __package__)
        except ModuleNotFoundError:
            # importlib mistakes a TimeoutError that a signal handler raises for a missing file.
            loaded = import_module(f".{module}", __package__)
        kind: type[R] = getattr(loaded, name)
        return kind


class Repositories:
    """The base of classes that have repositories as attributes."""

    def __init__(self, database: Backend) -> None:
        self._database = database

    def _make(self, kind: type[Any]) -> Any:
        return kind(self._database)


class AccessRepositories(Repositories):
    """The repositories of permissions and limits.

    Attributes:
        models: the permissions to use models.
        files: the permissions to use files.
        limits: the rate limits.
    """

    models: Registered[ModelPermissions] = Registered("permissions.ModelPermissions")
    files: Registered[FilePermissions] = Registered("permissions.FilePermissions")
    limits: Registered[RateLimits] = Registered("limits.RateLimits")


class TableRepositories(Repositories):
    """The repositories of all other tables."""

    users: Registered[Users] = Registered("users.Users")
    keys: Registered[Keys] = Registered("keys.Keys")
    providers: Registered[Providers] = Registered("providers.Providers")
    credentials: Registered[Credentials] = Registered("credentials.Credentials")
    statuses: Registered[Statuses] = Registered("statuses.Statuses")
    catalog: Registered[Catalog] = Registered("catalog.Catalog")
    settings: Registered[ProxySettings] = Registered("settings.ProxySettings")
    files: Registered[Files] = Registered("files.Files")
    claude_files: Registered[ClaudeFiles] = Registered("files.ClaudeFiles")
    quotas: Registered[Quotas] = Registered("quotas.Quotas")
    usages: Registered[Usages] = Registered("usages.Usages")
    upstream_requests: Registered[UpstreamRequests] = Registered(
        "upstream_requests.UpstreamRequests"
    )
    downstream_requests: Registered[DownstreamRequests] = Registered(
        "downstream_requests.DownstreamRequests"
    )


def registered(owner: type[Repositories]) -> dict[str, type[Any]]:
    """Return the class of each repository by its name, nested ones as ``access.models``."""
    found: dict[str, type[Any]] = {}
    for name in dir(owner):
        attribute = getattr(owner, name)
        if isinstance(attribute, Registered):
            kind = found[name] = attribute.kind
            if issubclass(kind, Repositories):
                found |= {f"{name}.{inner}": each for inner, each in registered(kind).items()}
    return found
