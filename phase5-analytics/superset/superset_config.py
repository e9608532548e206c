"""What differs from Superset's defaults. What a user may change comes from .env."""

import os

from flask_appbuilder.security.api import SecurityApi
from flask_appbuilder.security.views import AuthDBView
from flask_appbuilder.utils.limit import Limit
from flask_limiter.util import get_remote_address
from sqlalchemy.engine import URL
from superset.utils.log import StdOutEventLogger

LOG_LEVEL = "WARNING"
SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = URL.create(
    "postgresql+psycopg2",
    username="superset",
    password=os.environ["SUPERSET_DB_PASSWORD"],
    host=os.environ.get("POSTGRES_HOST", "postgres"),
    database="superset",
).render_as_string(hide_password=False)
# After a restart of Postgres, pooled connections look open but are dead.
SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True}

# With one process, files on its own disk are enough. Gold changes every 15 minutes.
_CACHE = {"CACHE_TYPE": "FileSystemCache", "CACHE_THRESHOLD": 500, "CACHE_DEFAULT_TIMEOUT": 300}
CACHE_CONFIG = {**_CACHE, "CACHE_DIR": "/tmp/superset/cache"}
DATA_CACHE_CONFIG = {**_CACHE, "CACHE_DIR": "/tmp/superset/data"}

# An address may try ten passwords a minute on the page, and as many through the API. Superset's AUTH_RATE_LIMIT covers
# neither: it belongs to the view that shows the page. Pages have no limit: one loads a hundred files at once.
RATELIMIT_ENABLED = True
RATELIMIT_STORAGE_URI = "memory://"
RATELIMIT_APPLICATION = None
AUTH_RATE_LIMITED = False
AuthDBView.limits = [Limit("10 per minute", key_func=get_remote_address, methods=("POST",))]
SecurityApi.limits = [Limit("10 per minute", key_func=get_remote_address, methods=("POST",))]

# Who looked at what is in the log of the container, which is rotated. In the database, the default, each request leaves
# a row for ever.
EVENT_LOGGER = StdOutEventLogger()

# No worker beside the web server: no background queries, alerts or thumbnails.
CELERY_CONFIG = None
SUPERSET_WEBSERVER_TIMEOUT = 60

# Pages load from this server only and send nothing elsewhere. Plain HTTP, like all services here.
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
}
SESSION_COOKIE_SAMESITE = "Lax"

# Colours for labels without a colour of their own.
EXTRA_CATEGORICAL_COLOR_SCHEMES = [
    {
        "id": "fraudPlatform",
        "label": "Fraud platform",
        "colors": ["#2F6FB2", "#38A3A5", "#8E6BBF", "#E8963E", "#6B7A8F", "#C65B7C", "#7FB069", "#B8A14A"],
    }
]
