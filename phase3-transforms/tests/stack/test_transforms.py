"""Silver and Gold against the brute-force oracle, on real Trino and MinIO, with late, duplicate and revised data."""

from dataclasses import asdict

import pandas as pd
import pytest
from feature_store.layout import Label, PaymentEvent, parties_of, unpack_user
from features import USER_FEATURES, Novelty, UserFeatures, milliseconds
from lake import dbt, delta_table, rows, run_pipeline
from oracle import (
    assert_same,
    category_and_risk,
    current_features,
    data_clock,
    late_history,
    merchant_category,
    merchant_features,
    training_example,
)
from world import DAY, START, WRONG_TIME_USERS, Batch, Bronze, bronze_rows

GOLD = {
    "mart_training_examples": "transaction_id",
    "mart_fraud_features": "user_id",
    "mart_merchant_risk": "merchant_id",
    "mart_hourly_metrics": "metric_hour",
    "mart_user_risk_profiles": "user_id",
}
# What a row says about the run that made it.
OF_THE_RUN = ["matured_through", "transactions_through", "labels_through"]
MATURITY = 14 * DAY
# What a sender knows of a payment.
PAYMENT = [
    "transaction_id",
    "user_id",
    "amount",
    "currency",
    "merchant_id",
    "merchant_category",
    "country",
    "device_id",
    "device_type",
    "event_time",
    "is_international",
]
# The data tests that compare Gold with Silver, and Silver with Bronze.
COMPLETENESS = ("assert_hours_are_complete", "assert_examples_are_complete", "assert_silver_has_bronze")
# Those of features that no payments could have.
POSSIBILITY = (
    "assert_example_features_are_possible",
    "assert_merchant_features_are_possible",
    "assert_user_features_are_possible",
)
STEADINESS = "assert_fraud_rate_is_steady"
# What breaks Gold, in a way that one of these finds.
BROKEN = (
    "update gold.mart_training_examples set seconds_since_last = 0 where event_date = "
    "(select max(event_date) from gold.mart_training_examples)",
    "update gold.mart_merchant_risk set merchant_fraud_rate_7d = 1.5",
    "update gold.mart_fraud_features set transactions_1h = transactions_6h + 1",
    "update gold.mart_training_examples set is_fraud = false where event_date > "
    "(select max(event_date) from gold.mart_training_examples) - interval '15' day",
)


def gold(mart: str) -> pd.DataFrame:
    """A mart, in the order of its key, without what differs from run to run."""
    table = rows(f"select * from gold.{mart}").drop(columns=OF_THE_RUN, errors="ignore")
    return table.sort_values(GOLD[mart]).reset_index(drop=True)


def all_gold() -> dict[str, pd.DataFrame]:
    return {mart: gold(mart) for mart in GOLD}


def as_of(bronze: Bronze) -> pd.Timestamp:
    return data_clock(bronze.silver())


def assert_gold_equals(before: dict[str, pd.DataFrame]) -> None:
    for mart, table in before.items():
        pd.testing.assert_frame_equal(gold(mart), table, rtol=1e-9, atol=1e-9, obj=mart)


def test_bronze_is_what_was_loaded_and_silver_has_each_payment_once(bronze: Bronze) -> None:
    assert bronze_rows("transactions") == len(bronze.transactions)
    silver = rows("select transaction_id, amount from silver.stg_transactions").sort_values("transaction_id")
    expected = bronze.silver().sort_values("transaction_id")
    assert silver["transaction_id"].tolist() == expected["transaction_id"].tolist()
    # The copies claim another amount.
    assert silver["amount"].astype(float).round(2).tolist() == expected["amount"].round(2).tolist()


def test_training_examples_equal_the_oracle(bronze: Bronze, merchants: pd.DataFrame) -> None:
    silver = bronze.silver()
    examples = gold("mart_training_examples").set_index("transaction_id")
    matured = silver[silver["event_time"] <= as_of(bronze) - MATURITY]
    assert sorted(examples.index) == sorted(matured["transaction_id"])
    for _, payment in matured.sample(1000, random_state=3).iterrows():
        expected = training_example(payment, silver, bronze.labels, merchants)
        assert_same(examples.loc[payment["transaction_id"]].to_dict(), expected, payment["transaction_id"])


def test_training_examples_equal_what_serving_computes_from_events(bronze: Bronze) -> None:
    """The packed events of a user, at the instant of a payment: the numbers of the SQL."""
    silver, labels = bronze.silver().fillna({"country": "", "device_id": ""}), bronze.labels
    examples = gold("mart_training_examples").set_index("transaction_id")
    matured = silver[silver["event_time"] <= as_of(bronze) - MATURITY]
    events: dict[str, list[bytes]] = {}
    for user, own in silver.groupby("user_id"):
        events[user] = sorted(
            PaymentEvent(
                row.transaction_id,
                row.user_id,
                row.merchant_id,
                milliseconds(row.event_time.to_pydatetime()),
                round(row.amount * 100),
                row.country,
                row.device_id,
                row.is_international,
            ).pack()
            for row in own.itertuples()
        )
    members: dict[str, list[bytes]] = {}
    for row in labels.itertuples():
        event_time, reported_at = (milliseconds(at.to_pydatetime()) for at in (row.event_time, row.reported_at))
        label = Label(row.transaction_id, row.user_id, event_time, reported_at, row.is_fraud)
        members.setdefault(row.user_id, []).append(label.pack())
    for row in matured.sample(1000, random_state=4).itertuples():
        own = unpack_user(events[row.user_id], members.get(row.user_id, []))
        moment = row.event_time.to_pydatetime()
        user = UserFeatures.from_events(own, moment)
        novelty = Novelty.from_events(own, parties_of(row.merchant_id, row.country, row.device_id), moment)
        expected = {name: getattr(user, name) for name in USER_FEATURES} | asdict(novelty)
        assert_same(examples.loc[row.transaction_id].to_dict(), expected, row.transaction_id)


def test_examples_whose_history_came_late_say_so(bronze: Bronze) -> None:
    """No scorer had their features: a payment of the user's window arrived after them, in their batch or a later one.

    Late payments of the second batch on are marked by Bronze, and have no late history themselves.
    """
    silver = bronze.silver()
    found = gold("mart_training_examples").set_index("transaction_id")["late_history"]
    matured = silver[silver["transaction_id"].isin(found.index)].set_index("transaction_id", drop=False)
    expected = pd.Series({row["transaction_id"]: late_history(row, silver) for _, row in matured.iterrows()})
    assert found.loc[expected.index].tolist() == expected.tolist()
    of_first_batch = matured["loaded_at"] == silver["loaded_at"].min()
    assert expected[of_first_batch].sum() > 100 and not expected[matured["is_late"]].any()
    assert (matured["is_late"]).sum() > 15


def test_examples_that_late_data_touched_equal_the_oracle(bronze: Bronze, merchants: pd.DataFrame) -> None:
    """Payments just after one that came late: their examples existed already and had to be corrected."""
    silver = bronze.silver()
    examples = gold("mart_training_examples").set_index("transaction_id")
    first = silver["loaded_at"].min()
    late = silver[(silver["loaded_at"] > first) & (silver["event_time"] < START + 40 * DAY)]
    assert len(late) > 15
    checked = 0
    for _, came_late in late.iterrows():
        after = silver[
            (silver["user_id"] == came_late["user_id"])
            & (silver["event_time"] >= came_late["event_time"])
            & (silver["loaded_at"] == first)
            & (silver["event_time"] <= as_of(bronze) - MATURITY)
        ].head(3)
        for _, payment in after.iterrows():
            expected = training_example(payment, silver, bronze.labels, merchants)
            assert_same(examples.loc[payment["transaction_id"]].to_dict(), expected, payment["transaction_id"])
            checked += 1
    assert checked > 15


def test_fraud_features_equal_the_oracle(bronze: Bronze) -> None:
    silver = bronze.silver()
    features = gold("mart_fraud_features").set_index("user_id")
    assert sorted(features.index) == sorted(set(silver["user_id"]))
    for user in features.index:
        assert_same(features.loc[user].to_dict(), current_features(user, silver, bronze.labels, as_of(bronze)), user)


def test_merchant_risk_equals_the_oracle(bronze: Bronze, merchants: pd.DataFrame) -> None:
    silver = bronze.silver()
    risk = gold("mart_merchant_risk").set_index("merchant_id")
    assert set(silver["merchant_id"]) | set(merchants["merchant_id"]) == set(risk.index)
    for merchant in set(silver["merchant_id"]):
        category, category_risk = merchant_category(silver, merchants, merchant)
        expected = merchant_features(silver, bronze.labels, merchant, as_of(bronze).floor("D"))
        expected |= {"merchant_category": category, "merchant_category_risk": category_risk}
        assert_same(risk.loc[merchant].to_dict(), expected, merchant)


def test_categories_have_the_risk_of_the_seed(bronze: Bronze, merchants: pd.DataFrame) -> None:
    """What serving takes for a payment that gives its category."""
    found = rows("select category, risk from gold.mart_category_risk").set_index("category")["risk"].to_dict()
    expected = {name: category_and_risk(name, "", merchants)[1] for name in set(merchants["category"])}
    assert found == expected and set(found.values()) == {0, 1, 2}


def test_payments_give_categories_once_bronze_has_the_column(bronze: Bronze) -> None:
    """Those that came before it have that of the seed, or none."""
    silver = rows("select transaction_id, merchant_category from silver.stg_transactions").set_index("transaction_id")
    expected = bronze.silver().set_index("transaction_id")["merchant_category"].replace({"": None})
    found = silver.loc[expected.index, "merchant_category"]
    assert found.dropna().to_dict() == expected.dropna().to_dict()
    assert set(found.dropna()) == {"fuel", "gaming", "lottery"}
    assert found.isna().sum() > 3000


def test_wrong_times_move_nobody_elses_windows(bronze: Bronze, merchants: pd.DataFrame) -> None:
    """B1: Gold is what it would be without the payments of 2000, 2012, today and four minutes ahead, but for the two
    users who sent them. They wait in Silver until the data clock passes them.
    """
    silver, labels = bronze.silver(), bronze.labels
    wrong = silver[silver["transaction_id"].str.startswith("wrong-")]
    assert len(wrong) == 8
    rest = silver[~silver["user_id"].isin(WRONG_TIME_USERS)]
    clock = as_of(bronze)
    assert clock in set(rest["event_time"])
    assert clock >= sorted(rest.groupby("user_id")["event_time"].max())[-3]
    profiles = gold("mart_user_risk_profiles").set_index("user_id")
    assert (profiles["as_of"] == clock).all()
    for user in set(rest["user_id"]):
        assert_same(profiles.loc[user].to_dict(), _profile(rest, user, clock), user)
    examples = gold("mart_training_examples").set_index("transaction_id")
    early = wrong[wrong["event_time"] < pd.Timestamp(START)]
    assert set(wrong["transaction_id"]) & set(examples.index) == set(early["transaction_id"])
    for _, payment in early.iterrows():
        expected = training_example(payment, silver, labels, merchants)
        assert_same(examples.loc[payment["transaction_id"]].to_dict(), expected, payment["transaction_id"])
    # An hour with a payment is a row, whatever its year, and no hour between is.
    hours = gold("mart_hourly_metrics")["metric_hour"]
    assert hours[hours < pd.Timestamp(START)].tolist() == sorted(set(early["event_time"].dt.floor("h")))
    ((spine,),) = rows("select count(*) from gold.time_spine_hours where date_hour = timestamp '2000-01-01'").to_numpy()
    assert spine == 1


def _profile(payments: pd.DataFrame, user: str, clock: pd.Timestamp) -> dict[str, object]:
    own = payments[(payments["user_id"] == user) & payments["event_time"].between(clock - pd.Timedelta(days=30), clock)]
    return {
        "transactions_30d": len(own),
        "amount_max_30d": own["amount"].max() if len(own) else 0,
        "last_event_time": own["event_time"].max() if len(own) else None,
    }


def test_hourly_metrics_count_every_payment_and_every_known_fraud(bronze: Bronze) -> None:
    silver = bronze.silver()
    newest = bronze.labels.sort_values("reported_at").drop_duplicates("transaction_id", keep="last")
    frauds = set(newest.loc[newest["is_fraud"], "transaction_id"])
    expected = silver.assign(hour=silver["event_time"].dt.floor("h"), fraud=silver["transaction_id"].isin(frauds))
    expected = expected.groupby("hour").agg(transactions=("fraud", "size"), known_frauds=("fraud", "sum"))
    hours = gold("mart_hourly_metrics")
    assert hours["transactions"].tolist() == expected["transactions"].tolist()
    assert hours["known_frauds"].tolist() == expected["known_frauds"].tolist()


def test_a_run_without_news_changes_nothing(bronze: Bronze) -> None:
    before = all_gold()
    run_pipeline()
    assert_gold_equals(before)


def test_half_a_full_refresh_is_refused(bronze: Bronze) -> None:
    dbt("run", "--select", "int_training_entity_rows")
    with pytest.raises(AssertionError, match="has only what the last run"):
        dbt("run", "--full-refresh", "--select", "mart_training_examples")


def test_any_delta_reader_reads_gold(bronze: Bronze) -> None:
    for mart in GOLD:
        ((count,),) = rows(f"select count(*) from gold.{mart}").to_numpy().tolist()
        assert delta_table(f"gold/{mart}").to_pyarrow_table().num_rows == count > 0


def test_data_tests_pass(bronze: Bronze) -> None:
    assert "ERROR=0" in dbt("test", "--exclude-resource-type", "unit_test")


def test_unit_tests_pass(bronze: Bronze) -> None:
    assert "ERROR=0" in dbt("test", "--resource-type", "unit_test")


def test_a_kill_in_mid_run_is_healed_by_the_next(bronze: Bronze) -> None:
    """Silver is ahead of Gold, and the entity rows were made but not used: the next run brings all in line.

    F9: rows that Silver or Gold has lost are found by the data tests, as are features that can't be, and a fraud rate
    that drops; a full refresh brings all back, and gives the same.
    """
    payments = bronze.silver().sample(200, random_state=9)
    shift = pd.Timedelta(days=20)
    later = payments.assign(
        transaction_id="again-" + payments["transaction_id"], event_time=payments["event_time"] + shift
    )
    later = later[later["event_time"] <= as_of(bronze)]
    bronze.load(Batch(later[PAYMENT], bronze.labels.head(0)))
    dbt("run", "--select", "staging", "int_training_entity_rows")
    # Data tests at this moment don't report what Gold has not received yet as lost.
    dbt("test", "--select", *COMPLETENESS)
    run_pipeline()
    before = all_gold()
    for mart, key, which in (
        ("mart_training_examples", "event_time", "min"),
        ("mart_hourly_metrics", "metric_hour", "max"),
    ):
        rows(f"delete from gold.{mart} where {key} = (select {which}({key}) from gold.{mart})")
    rows(f"delete from silver.stg_transactions where event_date = date '{as_of(bronze):%Y-%m-%d}'")
    assert f"Warning in test {STEADINESS}" not in dbt("test", "--select", STEADINESS, *POSSIBILITY)
    for statement in BROKEN:
        rows(statement)
    with pytest.raises(AssertionError) as failure:
        dbt("test", "--select", *COMPLETENESS, *POSSIBILITY)
    failed = [test for test in (*COMPLETENESS, *POSSIBILITY) if f"Failure in test {test}" in str(failure.value)]
    assert failed == [*COMPLETENESS, *POSSIBILITY]
    assert f"Warning in test {STEADINESS}" in dbt("test", "--select", STEADINESS)
    dbt("run", "--full-refresh")
    assert_gold_equals(before)


def test_who_stops_paying_decays_to_zero(bronze: Bronze) -> None:
    """The last test, since it moves the data clock: one user pays once more, 40 days later.

    Two others have payments of today, so this one's is the third-newest.
    """
    payment = bronze.silver().iloc[[0]]
    user = payment["user_id"].iloc[0]
    later = payment.assign(transaction_id="much-later", event_time=as_of(bronze) + 40 * DAY)
    bronze.load(Batch(later[PAYMENT], bronze.labels.head(0)))
    run_pipeline()
    features = gold("mart_fraud_features").set_index("user_id")
    assert features.loc[user, "transactions_30d"] == 1
    others = features.drop(index=user)
    assert len(others) > 30
    assert (others["transactions_30d"] == 0).all()
    assert (others["amount_max_30d"] == 0).all()
    silver = bronze.silver()
    for name in features.index:
        assert_same(features.loc[name].to_dict(), current_features(name, silver, bronze.labels, as_of(bronze)), name)
