"""A PostgreSQL backend for Django whose new connections take the credentials that Vault gives now.

When to use it: for Django with psycopg 3, instead of "django.db.backends.postgresql", which it is in all else:

    DATABASES = {
        "default": {
            "ENGINE": "recipes.django_backend",
            "HOST": "db.example.com",
            "NAME": "shop",
            "DYNAMIC_ROLE": "db-demo-dynamic",  # or "STATIC_ROLE": "db-demo-static"
            "CONN_MAX_AGE": 600,
        }
    }

What goes wrong without it: settings.py is read once, and a password in it is the one of that moment. It serves on for
as long as connections last (CONN_MAX_AGE), and is refused to each new one once Vault has rotated it; a dynamic user is
gone in the middle of a request.

A connection is replaced between two requests, never during one: a request must be shorter than what a lease has left as
it is replaced ([database_dynamic] ttl_threshold). What runs outside of requests, such as a management command, calls
`django.db.close_old_connections()` between two pieces of work. What a dynamic user creates is owned by a user that will
go: run migrations with "OPTIONS": {"assume_role": …}. Of gunicorn's way to end a worker, see `gunicorn_hooks`.
"""
