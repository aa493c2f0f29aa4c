"""Access: may this user use that model, those files, and how much of it?

Nobody passes a check by being an admin, and no check asks whether the user is enabled: that is
decided when they log in.
"""

from __future__ import annotations

from ..backends.base import Backend
from ..database import run_query
from ..models import Provider, User, UserFilePermission, UserModelPermission, UserRateLimit
from .arguments import require_reference
from .limits import RateLimits
from .patterns import candidates, closest, require_model
from .permissions import FilePermissions, ModelPermissions


class Access:
    """What users may do. Each question is one query, however many rows the user has.

    Attributes:
        models: the permissions to use models.
        files: the permissions to use files.
        limits: the rate limits.
    """

    def __init__(self, database: Backend) -> None:
        self._database = database
        self.models = ModelPermissions(database)
        self.files = FilePermissions(database)
        self.limits = RateLimits(database)

    def allows(self, user: User | int, provider: Provider | int, model: str) -> bool:
        """Tell whether a permission of the user's, for the provider or for all, fits the model.

        A user or provider that does not exist is allowed nothing, but what is for all providers.

        Args:
            model: as the request names it; case counts.
        Raises:
            InvalidValue: when the model is blank, or cannot be the name of one.
        """
        permission = UserModelPermission
        query = permission.select(permission.model_pattern).where(
            permission.user == require_reference("user", user, User),
            (permission.provider == require_reference("provider", provider, Provider))
            | permission.provider.is_null(),
            permission.model_pattern.in_(candidates(require_model("model", model))),
        )
        found = run_query(self._database, lambda: [row.model_pattern for row in query])
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
