"""Access: may a user use a model or a provider's files, and within which rate limit?

Being an admin passes no check, and no check tests whether the user is enabled: logging in does.
"""

from __future__ import annotations

from ..backends.base import Backend
from ..database import run_query
from ..models import Provider, User, UserFilePermission, UserModelPermission, UserRateLimit
from .arguments import require_reference, require_row_id
from .patterns import candidates, closest, require_model
from .registry import AccessRepositories


class Access(AccessRepositories):
    """Checks of what users may do. Each is one query, however many rows the user has."""

    def __init__(self, database: Backend) -> None:
        super().__init__(database)
        self._allows_statements: dict[int, str] = {}  # number of patterns -> SQL; at most 511

    def allows(self, user: User | int, provider: Provider | int, model: str) -> bool:
        """Tell whether a permission of the user, for the provider or for all, matches the model.

        A user that does not exist has no permissions, a provider only those for all providers.

        Args:
            model: its name in the request; case-sensitive.
        Raises:
            InvalidValue: when the model is blank or not a valid name.
        """
        wanted = candidates(require_model("model", model))
        parameters = (
            require_row_id("user", user, User),
            require_row_id("provider", provider, Provider),
            *wanted,
        )

        def read() -> list[str]:
            sql = self._allows_sql(len(wanted))
            return [pattern for (pattern,) in self._database.query(sql, parameters)]

        found = run_query(self._database, read)
        # Matched again here: tables that GPROXY created on MySQL compare case-insensitively.
        return closest(found, model) is not None

    def rate_limit_for(self, user: User | int, model: str) -> UserRateLimit | None:
        """Return the user's rate limit that applies to the model, or None.

        It is the one for exactly that model, else for its longest prefix, else for its longest
        suffix, else for every model. Limits are not combined: None in that row means no limit.

        Raises:
            InvalidValue: when the model is blank or not a valid name.
        """
        query = UserRateLimit.select().where(
            UserRateLimit.user == require_reference("user", user, User),
            UserRateLimit.model_pattern.in_(candidates(require_model("model", model))),
        )
        found = run_query(self._database, lambda: {row.model_pattern: row for row in query})
        applies = closest(found, model)
        return None if applies is None else found[applies]

    def allows_files(self, user: User | int, provider: Provider | int) -> bool:
        """Tell whether the user may use the provider's files."""
        query = UserFilePermission.select().where(
            UserFilePermission.user == require_reference("user", user, User),
            UserFilePermission.provider == require_reference("provider", provider, Provider),
        )
        return run_query(self._database, query.exists)

    def _allows_sql(self, patterns: int) -> str:
        """Return the statement of `allows` for a number of patterns.

        Cached: a proxy runs it for every request, and building it takes longer than running it.
        """
        if patterns not in self._allows_statements:
            permission = UserModelPermission
            query = permission.select(permission.model_pattern).where(
                permission.user == 0,
                (permission.provider == 0) | permission.provider.is_null(),
                permission.model_pattern.in_(["pattern"] * patterns),
            )
            self._allows_statements[patterns] = query.sql()[0]
        return self._allows_statements[patterns]
