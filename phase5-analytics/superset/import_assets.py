"""Starts Superset's web application, after creating its tables, roles and administrator and importing every asset file.

When the files or Superset's version have changed, the files overwrite what was changed in the browser. Otherwise the
import is skipped, because it takes a minute on two busy cores. Every step can be repeated.
"""

import os
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy import text
from superset.app import create_app
from superset.cli.main import superset

ASSETS = Path("/opt/superset/assets")
USER, PASSWORD = os.environ["SUPERSET_ADMIN_USER"], os.environ["SUPERSET_ADMIN_PASSWORD"]


def application() -> Flask:
    """The WSGI application, on an empty database or on that of an earlier start."""
    app = create_app()
    contents = {str(path.relative_to(ASSETS)): path.read_text() for path in sorted(ASSETS.rglob("*.yaml"))}
    current = fingerprint(contents)
    with app.app_context():
        changed = imported_fingerprint() != current
    if changed:
        for command in (["db", "upgrade"], ["init"]):
            superset.main(command, obj=ScriptInfo(create_app=lambda: app), standalone_mode=False)
    with app.app_context():
        set_administrator()
        if changed:
            import_assets(contents)
            remember(current)
    return app


def fingerprint(contents: dict[str, str]) -> str:
    """A hash of the files and of Superset's version, since each release has its own migrations."""
    return sha256(repr((version("apache-superset"), contents)).encode()).hexdigest()


def imported_fingerprint() -> str | None:
    """The fingerprint of the last start that completed all steps."""
    # Modules that use the database can only be imported once there is an application; also below.
    from superset import db

    with db.engine.begin() as connection:
        connection.execute(text("create table if not exists prepared (fingerprint text not null)"))
        return connection.execute(text("select fingerprint from prepared")).scalar()


def remember(current: str) -> None:
    """Store the fingerprint for the next start."""
    from superset import db

    with db.engine.begin() as connection:
        connection.execute(text("delete from prepared"))
        connection.execute(text("insert into prepared values (:current)"), {"current": current})


def set_administrator() -> None:
    """Create the administrator, or give the existing one the password of the settings."""
    from superset import security_manager

    if user := security_manager.find_user(USER):
        security_manager.reset_password(user.id, PASSWORD)
    else:
        role = security_manager.find_role("Admin")
        security_manager.add_user(USER, "Platform", "Administrator", f"{USER}@localhost", role, PASSWORD)


def import_assets(contents: dict[str, str]) -> None:
    """Create or overwrite every asset by its UUID; import-dashboards would keep existing charts and datasets."""
    from superset import security_manager
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.utils.core import override_user

    with override_user(security_manager.find_user(USER)):
        ImportAssetsCommand(contents).run()
    print(f"{sum(name.startswith('dashboards/') for name in contents)} dashboards imported")
