"""Access: may a user use a model or a provider's files, and within which rate limit?

Being an admin passes no check, and no check tests whether the user is enabled: logging in does.
"""

from __future__ import annotations

from functools import partial

from ..backends.base import Backend
from ..database import run_query
from ..models import Provider, User, UserFilePermission, UserModelPermission, UserRateLimit
from .arguments import require_row_id
from .patterns import candidates, closest, require_model
from .registry import AccessRepositories
from .statements import Select, Slot, Statement, Statements


class Access(AccessRepositories):
    """Checks of what users may do. Each is one query, however many rows the user has."""

    def __init__(self, database: Backend) -> None:
        super().__init__(database)
        self._statements = Statements()

    def allows(self, user: User | int, provider: Provider | int, model: str) -> bool:
        """Tell whether a permission of the user, for the provider or for all, matches the model.

        A user that does not exist has no permissions, a provider only those for all providers.

        Args:
            model: its name in the request; case-sensitive.
        Raises:
            InvalidValue: when the model is blank or not a valid name.
        """
        wanted = candidates(require_model("model", model))
        statement = self._statements.get(
            ("allows", len(wanted)), partial(_permitted_patterns, len(wanted))
        )
        parameters = statement.bind(
            (
                require_row_id("user", user, User),
                require_row_id("provider", provider, Provider),
                *wanted,
            )
        )
        found = run_query(self._database, partial(self._database.query, statement.sql, parameters))
        # Matched again here: tables that GPROXY created on MySQL compare case-insensitively.
        return closest((pattern for (pattern,) in found), model) is not None

    def rate_limit_for(self, user: User | int, model: str) -> UserRateLimit | None:
        """Return the user's rate limit that applies to the model, or None.

        It is the one for exactly that model, else for its longest prefix, else for its longest
        suffix, else for every model. Limits are not combined: None in that row means no limit.

        Raises:
            InvalidValue: when the model is blank or not a valid name.
        """
        wanted = candidates(require_model("model", model))
        statement = self._statements.get(("limits", len(wanted)), partial(_limits, len(wanted)))
        parameters = statement.bind((require_row_id("user", user, User), *wanted))
        rows = run_query(self._database, partial(statement.rows, self._database, parameters))
        found = {row.model_pattern: row for row in rows}
        applies = closest(found, model)
        return None if applies is None else found[applies]

    def allows_files(self, user: User | int, provider: Provider | int) -> bool:
        """Tell whether the user may use the provider's files."""
        statement = self._statements.get("files", _file_permission)
        parameters = statement.bind(
            (
                require_row_id("user", user, User),
                require_row_id("provider", provider, Provider),
            )
        )
        query = partial(self._database.query, statement.sql, parameters)
        return bool(run_query(self._database, query))


def _slots(number: int, first: int) -> list[Slot]:
    # The texts of `candidates` need no check: `require_model` has checked the model.
    return [Slot(first + position).unconverted() for position in range(number)]


def _permitted_patterns(patterns: int) -> Statement:
    """Return the statement that finds permissions of a user for a provider, by their patterns."""
    permission, user, provider = UserModelPermission, Slot(0), Slot(1)
    return Statement(
        permission.select(permission.model_pattern).where(
            permission.user == user,
            (permission.provider == provider) | permission.provider.is_null(),
            permission.model_pattern.in_(_slots(patterns, 2)),
        )
    )


def _limits(patterns: int) -> Select[UserRateLimit]:
    """Return the statement that finds rate limits of a user by their patterns."""
    limit = UserRateLimit
    return Select(
        limit.select().where(limit.user == Slot(0), limit.model_pattern.in_(_slots(patterns, 1)))
    )


def _file_permission() -> Statement:
    """Return the statement that finds a user's permission for a provider's files."""
    permission = UserFilePermission
    found = (permission.user == Slot(0)) & (permission.provider == Slot(1))
    return Statement(permission.select(permission.id).where(found).limit(1))
