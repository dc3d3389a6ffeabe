"""An auth manager under which a guest may read one DAG and nothing of the fleet; the simple one knows no such users."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

GUEST = "guest"
GUESTS_DAG = "kinds"


class GuestAuthManager(SimpleAuthManager):
    """The simple auth manager, stricter towards the guest."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **more: Any) -> bool:
        if user.username == GUEST and (details is None or details.id != GUESTS_DAG):
            return False
        return bool(super().is_authorized_dag(user=user, details=details, **more))

    def is_authorized_view(self, *, access_view: AccessView, user: Any) -> bool:
        if user.username == GUEST and access_view == AccessView.JOBS:
            return False
        return bool(super().is_authorized_view(access_view=access_view, user=user))
