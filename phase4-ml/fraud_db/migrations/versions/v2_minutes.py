"""Counts and sums of the predictions by the minute, for charts that would read 90,000 rows otherwise."""

from alembic import op

revision = "2"
down_revision = "1"

# audit/sink.py keeps it in the transaction that stores the predictions. Rows are updated in place, so a page has room.
MINUTES = """
create table prediction_minutes (
    minute timestamptz not null, -- of predicted_at
    risk_tier text not null,
    feature_source text not null,
    model_version text not null,
    is_international boolean not null,
    score_band double precision not null, -- lower edge of a band of 0.05
    payments bigint not null,
    amount double precision not null,
    fraud_probability double precision not null,
    latency_ms double precision not null,
    primary key (minute, risk_tier, feature_source, model_version, is_international, score_band)
) with (fillfactor = 50)
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(MINUTES)
