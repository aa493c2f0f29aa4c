"""Access: may this user use that model, those files, and how much of it?

Nobody passes a check by being an admin, and no check asks whether the user is enabled: that is
decided when they log in.
"""

from __future__ import annotations

from ..backends.base import Backend
from ..database import run_query
from ..models import Provider, User, UserFilePermission, UserModelPermission, UserRateLimit
from .arguments import require_reference, require_row_id
from .patterns import candidates, closest, require_model
from .registry import AccessRepositories


class Access(AccessRepositories):
    """What users may do. Each question is one query, however many rows the user has."""

    def __init__(self, database: Backend) -> None:
        super().__init__(database)
        self._allows_texts: dict[int, str] = {}  # of at most 511 lengths

    def allows(self, user: User | int, provider: Provider | int, model: str) -> bool:
        """Tell whether a permission of the user's, for the provider or for all, fits the model.

        A user or provider that does not exist is allowed nothing, but what is for all providers.

        Args:
            model: as the request names it; case counts.
        Raises:
            InvalidValue: when the model is blank, or cannot be the name of one.
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
        # Asked again: tables that GPROXY created on MySQL compare without regard to case.
        return closest(found, model) is not None

    def rate_limit_for(self, user: User | int, model: str) -> UserRateLimit | None:
        """Return the one rate limit of the user's that applies to the model, or None.

        The one for exactly that model, else for its longest prefix, else for its longest suffix,
        else for every model. Limits are not combined: None in the row that applies is no limit.

        Raises:
            InvalidValue: when the model is blank, or cannot be the name of one.
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
        """Return the statement of `allows` for so many patterns.

        A proxy asks it with every request, and building it anew takes longer than answering it.
        """
        if patterns not in self._allows_texts:
            permission = UserModelPermission
            query = permission.select(permission.model_pattern).where(
                permission.user == 0,
                (permission.provider == 0) | permission.provider.is_null(),
                permission.model_pattern.in_(["pattern"] * patterns),
            )
            self._allows_texts[patterns] = query.sql()[0]
        return self._allows_texts[patterns]
