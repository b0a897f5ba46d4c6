"""A Django site in one file, for test_forking_frameworks.py: it has used the database before gunicorn forks."""

from __future__ import annotations

import hmac
import os
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.urls import path

from recipes.django_backend.client import vault

DATABASE = {
    "ENGINE": "recipes.django_backend",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
    "NAME": os.environ["PGDATABASE"],
}
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {**DATABASE, "DYNAMIC_ROLE": os.environ["DATABASE_DYNAMIC_ROLE_ID"], "CONN_MAX_AGE": None},
        "other": {**DATABASE, "STATIC_ROLE": "db-demo-static"},
    },
)


def log_in(alias: str) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_user, pg_backend_pid()")
        return cursor.fetchone()


def who_am_i() -> dict[str, Any]:
    (user, session), (static_user, static_session) = log_in("default"), log_in("other")
    key = vault.get_kv_secret(os.environ["KV_SECRET_PATH"]).data["api_key"]
    return {
        "process": os.getpid(),
        "user": user,
        "session": session,
        "static_user": static_user,
        "static_session": static_session,
        "signature": hmac.new(key.encode(), user.encode(), "sha256").hexdigest(),
    }


def view(_request: HttpRequest) -> JsonResponse:
    return JsonResponse(who_am_i())


urlpatterns = [path("", view)]
application = get_wsgi_application()
who_am_i()
