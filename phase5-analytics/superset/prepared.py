"""The web application, once there is what it needs: its tables, roles, administrator, and every dashboard in the files.

When the files or Superset have changed, what is in files wins over what was changed in the browser. Otherwise nothing
is done, since it costs a minute on two busy cores. Each step can be taken again.
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
    """From an empty database, or from that of an earlier start."""
    app = create_app()
    contents = {str(path.relative_to(ASSETS)): path.read_text() for path in sorted(ASSETS.rglob("*.yaml"))}
    wanted = fingerprint(contents)
    with app.app_context():
        changed = prepared_for() != wanted
    if changed:
        for command in (["db", "upgrade"], ["init"]):
            superset.main(command, obj=ScriptInfo(create_app=lambda: app), standalone_mode=False)
    with app.app_context():
        set_administrator()
        if changed:
            import_assets(contents)
            remember(wanted)
    return app


def fingerprint(contents: dict[str, str]) -> str:
    """Of the files and of Superset itself: each release has migrations of its own."""
    return sha256(repr((version("apache-superset"), contents)).encode()).hexdigest()


def prepared_for() -> str | None:
    """The fingerprint of the last start that took all steps."""
    # What knows the database can't be imported before there is an application; here and below.
    from superset import db

    with db.engine.begin() as connection:
        connection.execute(text("create table if not exists prepared (fingerprint text not null)"))
        return connection.execute(text("select fingerprint from prepared")).scalar()


def remember(wanted: str) -> None:
    """Keep the fingerprint for the next start."""
    from superset import db

    with db.engine.begin() as connection:
        connection.execute(text("delete from prepared"))
        connection.execute(text("insert into prepared values (:wanted)"), {"wanted": wanted})


def set_administrator() -> None:
    """An administrator from an earlier start gets today's password."""
    from superset import security_manager

    if user := security_manager.find_user(USER):
        security_manager.reset_password(user.id, PASSWORD)
    else:
        role = security_manager.find_role("Admin")
        security_manager.add_user(USER, "Platform", "Administrator", f"{USER}@localhost", role, PASSWORD)


def import_assets(contents: dict[str, str]) -> None:
    """Write every asset anew; the command import-dashboards leaves charts and datasets that are there as they are."""
    from superset import security_manager
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.utils.core import override_user

    with override_user(security_manager.find_user(USER)):
        ImportAssetsCommand(contents).run()
    print(f"{sum(name.startswith('dashboards/') for name in contents)} dashboards imported")
